//! The containers of recordings: plain, gzip and zip, told apart by content.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::path::Path;

use flate2::bufread::{DeflateDecoder, MultiGzDecoder};
use zip::ZipArchive;

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZIP_ENTRY: &[u8] = b"PK\x03\x04";
const ZIP_DIRECTORY: &[u8] = b"PK\x01\x02";
const ZIP_END: &[u8] = b"PK\x05\x06";

/// How much is read from the file at once.
const READ_BYTES: usize = 256 * 1024;

/// Takes the content of an entry, which has a name if it stands in an archive.
pub(crate) type Visit<'a> = dyn FnMut(Option<&str>, &mut dyn Read) -> ControlFlow<()> + 'a;

/// Gives the content of each entry of a file to `visit`, in order. A plain or gzipped file has one.
///
/// Damage within an entry is an error of its reader. `Some` tells of damage outside of entries.
pub(crate) fn walk(path: &Path, visit: &mut Visit<'_>) -> io::Result<Option<String>> {
    let mut file = File::open(path)?;
    let mut magic = Vec::new();
    Read::by_ref(&mut file).take(4).read_to_end(&mut magic)?;
    file.rewind()?;
    if magic.starts_with(GZIP) {
        let _ = visit(None, &mut MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file)));
        Ok(None)
    } else if magic == ZIP_ENTRY || magic == ZIP_END {
        zip(file, visit)
    } else {
        let _ = visit(None, &mut file);
        Ok(None)
    }
}

fn zip(file: File, visit: &mut Visit<'_>) -> io::Result<Option<String>> {
    match ZipArchive::new(BufReader::with_capacity(READ_BYTES, file.try_clone()?)) {
        Ok(archive) => {
            listed(archive, visit);
            Ok(None)
        }
        Err(error) => unlisted(file, visit).map(|found| found.map(|found| format!("{error}: {found}"))),
    }
}

/// An archive whose directory can be read.
fn listed(mut archive: ZipArchive<BufReader<File>>, visit: &mut Visit<'_>) {
    for index in 0..archive.len() {
        let flow = match archive.by_index(index) {
            Ok(entry) if entry.is_dir() => ControlFlow::Continue(()),
            Ok(mut entry) => {
                let name = entry.name().to_owned();
                visit(Some(&name), &mut entry)
            }
            Err(error) => visit(Some(&format!("number {}", index + 1)), &mut Unreadable(error.to_string())),
        };
        if flow.is_break() {
            return;
        }
    }
}

/// An archive that is cut, so that its directory is missing: entries are found by their own headers.
fn unlisted(mut file: File, visit: &mut Visit<'_>) -> io::Result<Option<String>> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BufReader::with_capacity(READ_BYTES, file);
    loop {
        let mut signature = [0; 4];
        if reader.read_exact(&mut signature).is_err() || signature != *ZIP_ENTRY {
            return Ok(Some("the archive's directory is missing, so entries may be, too".to_owned()));
        }
        let Ok(entry) = LocalEntry::read(&mut reader) else {
            return Ok(Some("an entry's header is cut".to_owned()));
        };
        let broken = match entry.visit(&mut reader, visit) {
            ControlFlow::Continue(broken) => broken,
            ControlFlow::Break(()) => return Ok(None),
        };
        if broken || skip_descriptor(&mut reader).is_err() {
            // The visitor has seen where it breaks; entries behind it cannot be found.
            return Ok(None);
        }
    }
}

/// An entry as its own header describes it.
struct LocalEntry {
    name: String,
    method: u16,
    packed_bytes: u64,
}

impl LocalEntry {
    /// Reads what follows the signature.
    fn read(reader: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 26];
        reader.read_exact(&mut header)?;
        let short = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let packed = u32::from_le_bytes([header[14], header[15], header[16], header[17]]);
        let mut name = vec![0; usize::from(short(22))];
        reader.read_exact(&mut name)?;
        io::copy(&mut reader.take(u64::from(short(24))), &mut io::sink())?;
        let name = String::from_utf8_lossy(&name).into_owned();
        Ok(Self { name, method: short(4), packed_bytes: u64::from(packed) })
    }

    /// Gives the content to `visit`; true if it breaks.
    fn visit(&self, reader: &mut BufReader<File>, visit: &mut Visit<'_>) -> ControlFlow<(), bool> {
        let mut content = Watched { content: self.content(reader), broken: false };
        if !self.name.ends_with('/') {
            visit(Some(&self.name), &mut content)?;
        }
        // What the visitor left stands before the next header.
        let rest = io::copy(&mut content, &mut io::sink());
        ControlFlow::Continue(rest.is_err() || content.broken)
    }

    fn content<'a>(&self, reader: &'a mut BufReader<File>) -> Content<'a> {
        match self.method {
            0 => Content::Stored { left: self.packed_bytes, reader },
            8 => Content::Deflated(DeflateDecoder::new(reader)),
            other => Content::Unreadable(Unreadable(format!("unknown compression method {other}"))),
        }
    }
}

enum Content<'a> {
    Stored { left: u64, reader: &'a mut BufReader<File> },
    Deflated(DeflateDecoder<&'a mut BufReader<File>>),
    Unreadable(Unreadable),
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unreadable(unreadable) => unreadable.read(buffer),
            Self::Stored { left: 0, .. } => Ok(0),
            Self::Stored { left, reader } => match reader.take(*left).read(buffer)? {
                0 if !buffer.is_empty() => Err(cut()),
                read => {
                    *left -= read as u64;
                    Ok(read)
                }
            },
            Self::Deflated(decoder) => decoder.read(buffer),
        }
    }
}

/// Remembers whether its content broke.
struct Watched<'a> {
    content: Content<'a>,
    broken: bool,
}

impl Read for Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.content.read(buffer).inspect_err(|_| self.broken = true)
    }
}

/// Content that cannot be read at all.
struct Unreadable(String);

impl Read for Unreadable {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(self.0.clone()))
    }
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends early")
}

/// Skips the sizes that may follow an entry: 12 to 24 bytes.
fn skip_descriptor(reader: &mut BufReader<File>) -> io::Result<()> {
    for _ in 0..=24 {
        let next = reader.fill_buf()?;
        let at_header = [ZIP_ENTRY, ZIP_DIRECTORY].iter().any(|signature| next.starts_with(signature));
        if at_header || next.is_empty() {
            return Ok(());
        }
        reader.consume(1);
    }
    Err(io::ErrorKind::InvalidData.into())
}
