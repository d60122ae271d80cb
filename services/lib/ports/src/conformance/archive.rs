//! What every [`Archive`] does.

use bytes::Bytes;
use futures::future::join_all;

use super::{done, refused, unique};
use crate::{Archive, FileInfo, PortError, Published};

/// All cases, one after the other.
pub async fn suite(archive: &dyn Archive) {
    publishes_and_reads(archive).await;
    never_overwrites(archive).await;
    lets_one_of_many_win(archive).await;
    writes_again_after_a_failure(archive).await;
    lists_in_order(archive).await;
    removes_what_is_there(archive).await;
    keeps_a_large_file(archive).await;
}

/// A file written and published has its content under its final name, and only there.
pub async fn publishes_and_reads(archive: &dyn Archive) {
    let root = unique("conformance-");
    let (temporary, path) = (format!("{root}/_tmp/7/a"), format!("{root}/data/date=2024-08-08/part-0"));
    assert_eq!(length(archive, &path).await, None, "length of a file that does not exist");
    done(archive.write(&temporary, Bytes::from_static(b"0123456789")).await, "write");
    assert_eq!(length(archive, &temporary).await, Some(10), "length of what was written");
    assert_eq!(length(archive, &path).await, None, "nothing has the final name before it is published");
    assert_eq!(publish(archive, &temporary, &path).await, Published::Won, "publish, into folders that do not exist");
    assert_eq!(length(archive, &temporary).await, None, "the temporary name is gone");
    assert_eq!(length(archive, &path).await, Some(10), "length of what was published");
    let folder = format!("{root}/data");
    assert_eq!(length(archive, &folder).await, None, "a folder is no file");

    let ranges: [(u64, u64, &[u8]); 7] = [
        (0, 10, b"0123456789"),
        (3, 4, b"3456"),
        (9, 1, b"9"),
        (5, 0, b""),
        (8, 100, b"89"),
        (10, 5, b""),
        (11, 5, b""),
    ];
    for (start, length, expected) in ranges {
        let bytes = done(archive.read(&path, start, length).await, "read a range");
        assert_eq!(bytes, expected, "read {length} bytes from {start} of 10");
    }
    refused(archive.read(&format!("{root}/none"), 0, 1).await, "read a file that does not exist");
    refused(archive.publish(&temporary, &format!("{root}/other")).await, "publish a file that does not exist");
    assert_eq!(length(archive, &format!("{root}/other")).await, None, "a refused publication leaves nothing");

    let (temporary, empty) = (format!("{root}/_tmp/7/b"), format!("{root}/data/empty"));
    done(archive.write(&temporary, Bytes::new()).await, "write an empty file");
    assert_eq!(publish(archive, &temporary, &empty).await, Published::Won, "publish an empty file");
    assert_eq!(length(archive, &empty).await, Some(0), "length of an empty file");
    assert_eq!(done(archive.read(&empty, 0, 10).await, "read an empty file"), Bytes::new());
    clean(archive, &root).await;
}

/// Publishing onto an existing name loses, and changes neither file.
pub async fn never_overwrites(archive: &dyn Archive) {
    let root = unique("conformance-");
    let (first, second, path) = (format!("{root}/_tmp/1"), format!("{root}/_tmp/2"), format!("{root}/data/part"));
    done(archive.write(&first, Bytes::from_static(b"winner")).await, "write");
    done(archive.write(&second, Bytes::from_static(b"the loser's content")).await, "write");
    assert_eq!(publish(archive, &first, &path).await, Published::Won, "the first to publish");
    for attempt in 1..=2 {
        assert_eq!(publish(archive, &second, &path).await, Published::Lost, "attempt {attempt} onto an existing name");
        assert_eq!(content(archive, &path).await, b"winner"[..], "the winner's content stays");
        assert_eq!(content(archive, &second).await, b"the loser's content"[..], "the loser's file stays where it was");
    }
    clean(archive, &root).await;
}

/// Of many that publish to one name at once, exactly one wins, and its content is what stands.
pub async fn lets_one_of_many_win(archive: &dyn Archive) {
    let root = unique("conformance-");
    let path = format!("{root}/data/part");
    let attempts = (0..8_u8).map(|writer| {
        let (root, path) = (&root, &path);
        async move {
            let temporary = format!("{root}/_tmp/{writer}/part");
            done(archive.write(&temporary, Bytes::from(vec![writer; 1_000])).await, "write");
            (writer, publish(archive, &temporary, path).await)
        }
    });
    let results = join_all(attempts).await;
    let winners: Vec<u8> = results.iter().filter(|(_, p)| *p == Published::Won).map(|(writer, _)| *writer).collect();
    assert_eq!(winners.len(), 1, "exactly one of eight publishers wins, but these did: {winners:?}");
    assert_eq!(content(archive, &path).await, vec![winners[0]; 1_000], "the content is the winner's");
    clean(archive, &root).await;
}

/// Writing a temporary file again replaces all of it.
pub async fn writes_again_after_a_failure(archive: &dyn Archive) {
    let root = unique("conformance-");
    let temporary = format!("{root}/_tmp/part");
    for content_now in [&b"a long first attempt"[..], b"short", b"", b"longer again"] {
        done(archive.write(&temporary, Bytes::from_static(content_now)).await, "write over an earlier attempt");
        assert_eq!(content(archive, &temporary).await, content_now, "content after writing again");
    }
    clean(archive, &root).await;
}

/// A folder's entries come in order of name, files with lengths, folders as folders, no deeper.
pub async fn lists_in_order(archive: &dyn Archive) {
    let root = unique("conformance-");
    let nothing: [FileInfo; 0] = [];
    assert_eq!(done(archive.list(&root).await, "list"), nothing, "a folder that does not exist is empty");
    for (name, size) in
        [("part-2", 2), ("part-10", 10), ("z/deep/er", 3), ("part-1", 1), ("a/x", 1), ("a/y", 1), ("a-1", 4)]
    {
        let temporary = format!("{root}-tmp/{size}");
        done(archive.write(&temporary, Bytes::from(vec![7; size])).await, "write");
        assert_eq!(publish(archive, &temporary, &format!("{root}/{name}")).await, Published::Won, "publish {name}");
    }
    let file = |name: &str, length| FileInfo { name: name.to_owned(), is_folder: false, length };
    let folder = |name: &str| FileInfo { name: name.to_owned(), is_folder: true, length: 0 };
    // In bytes of the whole path, `a-1` would come before `a/x`.
    let expected =
        [folder("a"), file("a-1", 4), file("part-1", 1), file("part-10", 10), file("part-2", 2), folder("z")];
    assert_eq!(done(archive.list(&root).await, "list"), expected, "files and folders in order of name");
    let listed = done(archive.list(&format!("{root}/a")).await, "list a folder below");
    assert_eq!(listed, [file("x", 1), file("y", 1)], "names come without the folder");
    let listed = done(archive.list(&format!("{root}/par")).await, "list");
    assert_eq!(listed, nothing, "the beginning of a name is not a folder");
    clean(archive, &format!("{root}-tmp")).await;
    clean(archive, &root).await;
}

/// Removing takes files and whole folders, and nothing else.
pub async fn removes_what_is_there(archive: &dyn Archive) {
    let root = unique("conformance-");
    for name in ["a/1", "a/2", "a/b/3", "ab"] {
        done(archive.write(&format!("{root}/{name}"), Bytes::from_static(b"x")).await, "write");
    }
    for _twice in 0..2 {
        done(archive.remove(&format!("{root}/a/1")).await, "remove a file, also one that is gone");
        assert_eq!(length(archive, &format!("{root}/a/1")).await, None, "a removed file is gone");
        assert_eq!(length(archive, &format!("{root}/a/2")).await, Some(1), "its neighbour stays");
    }
    for _twice in 0..2 {
        done(archive.remove(&format!("{root}/a")).await, "remove a folder, also one that is gone");
        assert_eq!(length(archive, &format!("{root}/a/b/3")).await, None, "what was in the folder is gone");
        assert_eq!(length(archive, &format!("{root}/ab")).await, Some(1), "a name that begins alike stays");
    }
    clean(archive, &root).await;
}

/// A file of several blocks or buffers comes back byte for byte, also from the middle.
pub async fn keeps_a_large_file(archive: &dyn Archive) {
    let root = unique("conformance-");
    let (temporary, path) = (format!("{root}/_tmp/large"), format!("{root}/large"));
    let large: Vec<u8> = (0..9_000_001_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    done(archive.write(&temporary, Bytes::from(large.clone())).await, "write 9 MB");
    assert_eq!(publish(archive, &temporary, &path).await, Published::Won, "publish 9 MB");
    assert_eq!(length(archive, &path).await, Some(9_000_001), "length of a large file");
    assert!(content(archive, &path).await == large, "a large file comes back byte for byte");
    let middle = done(archive.read(&path, 4_194_300, 2_000_000).await, "read from the middle");
    assert!(middle == large[4_194_300..6_194_300], "a range of a large file comes back byte for byte");
    let tail = done(archive.read(&path, 8_999_990, 1_000).await, "read the tail");
    assert_eq!(tail, large[8_999_990..], "the tail of a large file");
    clean(archive, &root).await;
}

async fn publish(archive: &dyn Archive, temporary: &str, to: &str) -> Published {
    let result: Result<Published, PortError> = archive.publish(temporary, to).await;
    done(result, "publish")
}

async fn length(archive: &dyn Archive, path: &str) -> Option<u64> {
    done(archive.length(path).await, "length")
}

async fn content(archive: &dyn Archive, path: &str) -> Bytes {
    done(archive.read(path, 0, u64::from(u32::MAX)).await, "read the whole file")
}

async fn clean(archive: &dyn Archive, root: &str) {
    done(archive.remove(root).await, "remove what the suite made");
}
