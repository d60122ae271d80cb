//! How far a partition is stored, and what the processor had in mind there.

use domain::{CompletenessRow, DuplicatesRow, Position, TopicPartition};
use futures::{StreamExt, TryStreamExt, stream};
use ports::{Checkpoint, PortError, Tables, persist};
use serde::{Deserialize, Serialize};

use crate::completeness::Completeness;
use crate::recall::Duplicates;
use crate::{ProcessorError, ROLE};

/// How many checkpoints are on their way at the same time.
const CHECKPOINTS_IN_FLIGHT: usize = 16;

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

/// What the processor has in mind at one moment, to be saved while it goes on.
#[derive(Debug, Default)]
pub struct Snapshot {
    completeness: Vec<CompletenessRow>,
    duplicates: Vec<DuplicatesRow>,
    checkpoints: Vec<Checkpoint>,
}

impl Snapshot {
    /// Takes a partition at the position that would be read next.
    pub fn add(&mut self, next: Position, completeness: &mut Completeness, duplicates: &Duplicates, output: Position) {
        self.completeness.extend(completeness.take_changed_rows(next.offset - 1));
        self.duplicates.extend(duplicates.values().cloned());
        self.checkpoints.push(encoded(next, &completeness.without_forgotten(), vec![output]));
    }

    /// Saves it: first the rows, so that a checkpoint never promises some that are not there. Returns the positions saved.
    ///
    /// # Errors
    /// If the tables refuse; everything else is tried again.
    pub async fn save(self, tables: &dyn Tables) -> Result<Vec<Position>, PortError> {
        let Self { completeness, duplicates, checkpoints } = self;
        if !completeness.is_empty() {
            persist("store completeness", || tables.write_completeness(&completeness)).await?;
        }
        if !duplicates.is_empty() {
            persist("store duplicates", || tables.write_duplicates(&duplicates)).await?;
        }
        let saves = checkpoints.into_iter().map(|checkpoint| async move {
            persist("save checkpoint", || tables.save_checkpoint(&checkpoint)).await?;
            Ok(checkpoint.next)
        });
        stream::iter(saves).buffer_unordered(CHECKPOINTS_IN_FLIGHT).try_collect().await
    }
}

/// Writes a checkpoint down.
fn encoded(next: Position, completeness: &Completeness, outputs: Vec<Position>) -> Checkpoint {
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
