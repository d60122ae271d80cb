//! Records and trades as Arrow and Parquet: the one schema that the archiver writes and that batch
//! and audit read.
//!
//! Pure: bytes in, bytes out. In the order in which a record meets them: [`row`] (the trade that a
//! record carries), [`encode`] (rows into a file, bit by bit), [`footer`] (what the file says of
//! itself, readable without the rows) and [`decode`] (back to rows). [`schema`] names the columns.

pub mod decode;
pub mod encode;
pub mod error;
pub mod footer;
mod raw;
pub mod row;
pub mod schema;
mod trades;
mod writer;

pub use decode::{decode_raw, decode_trades, raw_of_batch, trades_of_batch};
pub use encode::{PartEncoder, RawEncoder, TradeEncoder};
pub use error::ColumnsError;
pub use footer::{Footer, Span, TAIL, Tail, read_footer, writer_of};
pub use row::ArchivedTrade;
pub use schema::{raw_schema, trades_schema};
pub use writer::WRITER;
