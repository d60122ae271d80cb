//! How far a partition is stored, and what the processor had in mind there.

use domain::{Position, TopicPartition};
use ports::Checkpoint;
use serde::{Deserialize, Serialize};

use crate::completeness::Completeness;
use crate::{ProcessorError, ROLE};

/// The version of the state's format. A newer one is an error, an older one is read.
const FORMAT: u32 = 1;

/// What the processor has in mind at a checkpoint.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The version of this format.
    pub format: u32,
    /// Which ids are stored.
    pub completeness: Completeness,
}

/// Writes a checkpoint down.
pub fn encoded(next: Position, completeness: &Completeness, outputs: Vec<Position>) -> Checkpoint {
    #[derive(Serialize)]
    struct Borrowed<'a> {
        format: u32,
        completeness: &'a Completeness,
    }
    let state = serde_json::to_vec(&Borrowed { format: FORMAT, completeness }).expect("ids and names are JSON");
    Checkpoint { role: ROLE.to_owned(), next, state, outputs }
}

/// Reads a checkpoint's state.
///
/// # Errors
/// If it is of a newer version or damaged.
pub fn decoded(at: &TopicPartition, checkpoint: &Checkpoint) -> Result<State, ProcessorError> {
    let state: State = serde_json::from_slice(&checkpoint.state)
        .map_err(|error| ProcessorError::Checkpoint { at: at.clone(), reason: error.to_string() })?;
    if state.format > FORMAT {
        let reason = format!("format {} was written by a newer version, expected {FORMAT} at most", state.format);
        return Err(ProcessorError::Checkpoint { at: at.clone(), reason });
    }
    Ok(state)
}
