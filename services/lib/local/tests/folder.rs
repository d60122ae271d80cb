//! The data folder: one writer, a known format, and clear words when it cannot be used.

use std::fs;

use local::{DataFolder, FolderError};

#[test]
fn one_writer_at_a_time() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("new/data");
    let first = DataFolder::lock(&path).unwrap();
    let second = DataFolder::lock(&path).unwrap_err();
    assert!(matches!(second, FolderError::InUse { .. }), "{second:?}");
    let text = second.to_string();
    assert!(text.contains(&format!("in use by another process (process {})", std::process::id())), "{text}");
    let reader = DataFolder::open_read_only(&path).unwrap();
    assert_eq!(reader.path(), first.path());
    drop(first);
    let again = DataFolder::lock(&path).unwrap();
    assert_eq!(again.archive(), path.join("crypto_data"));
}

#[test]
fn a_folder_of_a_newer_build_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(DataFolder::lock(folder.path()).unwrap());
    assert_eq!(fs::read_to_string(folder.path().join("VERSION")).unwrap(), "1\n");
    fs::write(folder.path().join("VERSION"), "2\n").unwrap();
    for error in [DataFolder::lock(folder.path()).unwrap_err(), DataFolder::open_read_only(folder.path()).unwrap_err()]
    {
        assert!(matches!(error, FolderError::Newer { found: 2, .. }), "{error:?}");
        assert!(error.to_string().contains("format 2, this build knows up to 1"), "{error}");
    }
    fs::write(folder.path().join("VERSION"), "what\n").unwrap();
    let error = DataFolder::lock(folder.path()).unwrap_err();
    assert!(error.to_string().contains(r#"expected a format number, got "what\n""#), "{error}");
}

#[test]
fn what_is_no_data_folder_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = DataFolder::lock(&file).unwrap_err();
    assert!(matches!(error, FolderError::NotAFolder(_)), "{error:?}");
    let error = DataFolder::open_read_only(&file).unwrap_err();
    assert!(matches!(error, FolderError::NotAFolder(_)), "{error:?}");
    let error = DataFolder::lock(folder.path()).unwrap_err();
    assert!(matches!(error, FolderError::Foreign(_)), "{error:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "a foreign folder is as it was");
    let error = DataFolder::open_read_only(folder.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, FolderError::NoData(_)), "{error:?}");
}

#[test]
fn a_start_that_was_killed_half_way_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lock"), "17\n").unwrap();
    fs::write(folder.path().join("VERSION.new"), "").unwrap();
    drop(DataFolder::lock(folder.path()).unwrap());
    DataFolder::open_read_only(folder.path()).unwrap();
}
