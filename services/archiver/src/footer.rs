//! Reading what a published file says of itself.

use columns::{Footer, TAIL, Tail, read_footer};
use domain::lake::PartName;
use domain::{Topic, TopicPartition};
use ports::{Archive, PortError};

use crate::error::ArchiverError;

/// The footer of a published file could not be had.
#[derive(Debug)]
pub enum FooterError {
    /// The archive's doing: try again.
    Archive(PortError),
    /// The file's: there is no point.
    File(ArchiverError),
}

impl From<PortError> for FooterError {
    fn from(error: PortError) -> Self {
        Self::Archive(error)
    }
}

/// The footer of the file of that name, or `None` if there is no such file.
pub async fn look(archive: &dyn Archive, name: &PartName, topic: &Topic) -> Result<Option<Footer>, FooterError> {
    let path = name.to_string();
    let Some(length) = archive.length(&path).await? else { return Ok(None) };
    let mut wanted = TAIL;
    let footer = loop {
        let start = length.saturating_sub(wanted);
        let end_of_file = archive.read(&path, start, length - start).await?;
        match read_footer(&end_of_file) {
            Ok(Tail::Complete(footer)) => break footer,
            Ok(Tail::Need(more)) if wanted < length => wanted = more.max(wanted + 1),
            Ok(Tail::Need(_)) => return Err(contradiction(path, "a whole footer", "a longer one")),
            Err(source) => return Err(FooterError::File(ArchiverError::Damaged { path, source })),
        }
    };
    check(&footer, name, topic).map(|()| Some(*footer))
}

/// A file whose footer contradicts its name would break the chain: better stop.
fn check(footer: &Footer, name: &PartName, topic: &Topic) -> Result<(), FooterError> {
    let at = TopicPartition::new(topic.clone(), name.partition);
    let span = &footer.span;
    if span.at == at && span.start == name.start_offset && span.end > span.start {
        return Ok(());
    }
    let expected = format!("{at} from offset {} on", name.start_offset);
    let found = format!("{} from offset {} to {}", span.at, span.start, span.end);
    Err(contradiction(name.to_string(), expected, found))
}

fn contradiction(path: String, expected: impl Into<String>, found: impl Into<String>) -> FooterError {
    FooterError::File(ArchiverError::Contradiction { path, expected: expected.into(), found: found.into() })
}
