//! exchange-sim.
