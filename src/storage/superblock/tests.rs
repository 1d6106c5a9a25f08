use super::*;
use crate::storage::disk::RealDisk;

fn example() -> Superblock {
    let mut ahead = Ahead::default();
    assert!(ahead.insert(SegmentTag { id: SegmentId(44), salt: 0xa4 }));
    assert!(ahead.insert(SegmentTag { id: SegmentId(43), salt: 0xa3 }));
    Superblock {
        version: FORMAT_VERSION,
        store: *b"0123456789abcdef",
        generation: 7,
        segment_size: 64 << 20,
        root: Lsn(0x0123_4567_89ab_cdef),
        root_salt: 0x0807_0605_0403_0201,
        newest: Some(SegmentTag { id: SegmentId(42), salt: 0xa2 }),
        durable: Lsn(0x0123_4567_89ab_ceff),
        ahead,
        openings: [0xb4, 0xb3, 0xb2, 0],
        written: Some(Timestamp(0x0000_0198_7654_3210)),
        compacted: Compacted { segments: 0x1122, messages: 0x3344_5566, bytes: 0x77_8899_aabb },
    }
}

fn flip(dir: &Path, offset: u64) {
    let file = RealDisk.open(&SuperblockFile::path(dir), Access::ReadWrite).unwrap();
    let mut byte = [0];
    read_exact_at(&*file, &mut byte, offset).unwrap();
    write_all_at(&*file, &[byte[0] ^ 1], offset).unwrap();
}

#[test]
fn the_bytes_on_disk_do_not_change_by_accident() {
    let bytes = example().encode();
    let mut expected = Vec::new();
    expected.extend_from_slice(b"HAYPILE\0\x04\0\0\0\x9a\xf1\x1a\x560123456789abcdef");
    expected.extend_from_slice(b"\x07\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0");
    expected.extend_from_slice(b"\xef\xcd\xab\x89\x67\x45\x23\x01\x2a\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x10\x32\x54\x76\x98\x01\0\0\x22\x11\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x66\x55\x44\x33\0\0\0\0\xbb\xaa\x99\x88\x77\0\0\0");
    expected.extend_from_slice(b"\x01\x02\x03\x04\x05\x06\x07\x08\xa2\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\xff\xce\xab\x89\x67\x45\x23\x01\x02\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x2b\0\0\0\0\0\0\0\xa3\0\0\0\0\0\0\0");
    expected.extend_from_slice(b"\x2c\0\0\0\0\0\0\0\xa4\0\0\0\0\0\0\0");
    expected.resize(480, 0);
    for salt in [0xb4_u64, 0xb3, 0xb2, 0] {
        expected.extend_from_slice(&salt.to_le_bytes());
    }
    assert_eq!(bytes[..160], expected[..160], "{:02x?}", &bytes[12..16]);
    assert_eq!(bytes[160..], expected[160..]);
    assert_eq!(Superblock::decode(&bytes), Ok(example()));
}

#[test]
fn a_superblock_of_version_3_is_read_and_the_next_update_writes_version_4() {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(b"HAYPILE\0\x03\0\0\0\xe5\xf1\x76\x2b0123456789abcdef");
    bytes.extend_from_slice(b"\x07\0\0\0\0\0\0\0\0\0\0\x04\0\0\0\0");
    bytes.extend_from_slice(b"\xef\xcd\xab\x89\x67\x45\x23\x01\x2a\0\0\0\0\0\0\0");
    bytes.resize(PAGE as usize, 0);
    bytes.extend_from_within(..);
    let dir = tempfile::tempdir().unwrap();
    let path = SuperblockFile::path(dir.path());
    let file = RealDisk.create(&path).unwrap();
    write_all_at(&*file, &bytes, 0).unwrap();
    drop(file);
    let open = || SuperblockFile::open(&RealDisk, dir.path(), Access::ReadWrite);
    let mut file = open().unwrap().unwrap();
    let expected = Superblock {
        version: 3,
        root_salt: 0,
        newest: Some(SegmentTag { id: SegmentId(42), salt: 0 }),
        durable: Lsn::ZERO,
        ahead: Ahead::default(),
        openings: [0; OPENINGS],
        written: None,
        compacted: Compacted::default(),
        ..example()
    };
    assert_eq!(*file.state(), expected);
    assert!(!expected.tells_histories());
    file.update(expected).unwrap();
    drop(file);
    let state = *open().unwrap().unwrap().state();
    assert_eq!(state, Superblock { version: 4, generation: 8, ..expected });
    assert!(state.tells_histories());
}

#[test]
fn segments_ahead_are_ascending_and_end_with_the_newest() {
    let tag = |id| SegmentTag { id: SegmentId(id), salt: id };
    let mut state = Superblock { ahead: Ahead::default(), ..example() };
    for id in (43..43 + AHEAD as u64).rev() {
        assert!(state.ahead.insert(tag(id)));
    }
    assert!(state.ahead.iter().map(|tag| tag.id.0).eq(43..43 + AHEAD as u64));
    let mut full = state;
    assert!(!full.ahead.insert(tag(100)), "there is no room");
    assert!(state.ahead.insert(SegmentTag { salt: 1, ..tag(50) }), "it takes the place of another");
    state.reach(Some(tag(60)), Lsn(5));
    assert_eq!((state.newest, state.durable), (Some(tag(60)), example().durable));
    assert_eq!(state.ahead.iter().next(), Some(tag(61)));
    assert_eq!(state.last_known(), Some(SegmentId(64)));
    state.reach(Some(tag(59)), Lsn::ZERO);
    assert_eq!(state.newest, Some(tag(60)));
}

#[test]
fn the_last_four_openings_are_kept() {
    let mut state = Superblock { openings: [0; OPENINGS], ..example() };
    for salt in [1, 2, 2, 3, 4, 5, 5] {
        state.note_opening(salt);
    }
    assert_eq!(state.openings, [5, 4, 3, 2]);
}

#[test]
fn either_copy_alone_is_enough() {
    for damaged in [0, PAGE] {
        let dir = tempfile::tempdir().unwrap();
        let mut file = SuperblockFile::create(&RealDisk, dir.path(), example()).unwrap();
        file.update(Superblock { root: Lsn(99), ..example() }).unwrap();
        drop(file);
        flip(dir.path(), damaged + 33);
        let read = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap().unwrap();
        assert_eq!(read.state().root, Lsn(99));
        assert_eq!(read.state().generation, 8);
    }
}

#[test]
fn two_damaged_copies_are_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    SuperblockFile::create(&RealDisk, dir.path(), example()).unwrap();
    flip(dir.path(), 20);
    flip(dir.path(), PAGE + 20);
    let error = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap_err();
    assert!(error.to_string().contains("superblock is damaged"), "{error}");
}

/// With checksums that are right: only a defect writes that, and nothing is to be calculated with it.
#[test]
fn what_cannot_be_is_refused_although_its_checksum_is_right() {
    let cannot_be = [
        Superblock { generation: u64::MAX, ..example() },
        Superblock { segment_size: 0, ..example() },
        Superblock { segment_size: 4096, ..example() },
        Superblock { segment_size: 1 << 33, ..example() },
        Superblock { root: Lsn(1 << 62), ..example() },
        Superblock { newest: Some(SegmentTag { id: SegmentId(u64::MAX), salt: 1 }), ..example() },
        Superblock { durable: Lsn(1 << 62), ..example() },
    ];
    for state in cannot_be {
        let dir = tempfile::tempdir().unwrap();
        SuperblockFile::create(&RealDisk, dir.path(), state).unwrap();
        let error = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap_err();
        assert!(error.to_string().contains("makes no sense"), "{error}");
    }
}

#[test]
fn no_update_writes_a_generation_that_would_be_refused() {
    let dir = tempfile::tempdir().unwrap();
    let last = Superblock { generation: u64::MAX - 1, ..example() };
    let mut file = SuperblockFile::create(&RealDisk, dir.path(), last).unwrap();
    file.update(Superblock { root: Lsn(99), ..last }).unwrap_err();
    drop(file);
    let read = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap().unwrap();
    assert_eq!(*read.state(), last);
}

#[test]
fn a_newer_format_is_refused_by_its_number() {
    let dir = tempfile::tempdir().unwrap();
    SuperblockFile::create(&RealDisk, dir.path(), example()).unwrap();
    let file = RealDisk.open(&SuperblockFile::path(dir.path()), Access::ReadWrite).unwrap();
    let mut copy = example().encode();
    copy[8] = 9;
    let sum = checksum(&copy);
    copy[12..16].copy_from_slice(&sum.to_le_bytes());
    write_all_at(&*file, &copy, 0).unwrap();
    let error = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap_err();
    assert!(matches!(error, OpenError::Format { found: 9, .. }), "{error}");
}

#[test]
fn segments_are_added_by_one_update_as_far_as_there_is_room() {
    let tag = |id| SegmentTag { id: SegmentId(id), salt: id };
    let dir = tempfile::tempdir().unwrap();
    let empty = Superblock { ahead: Ahead::default(), ..example() };
    let register = Mutex::new(SuperblockFile::create(&RealDisk, dir.path(), empty).unwrap());
    let state = || *register.lock().state();
    let tags: Vec<_> = (43..43 + AHEAD as u64 + 2).map(tag).collect();
    assert_eq!(register.note(&tags[..3], &[], None).unwrap(), 3);
    assert_eq!(state().generation, 8);
    assert_eq!(register.note(&tags[3..], &[], None).unwrap(), AHEAD - 3, "the first of them");
    assert_eq!(state().generation, 9);
    assert!(state().ahead.iter().eq(tags[..AHEAD].iter().copied()));
    assert_eq!(register.note(&tags[AHEAD..], &[], None).unwrap(), 0);
    assert_eq!(state().generation, 9, "nothing was noted");
    let reached = Some((tag(44), Lsn(5)));
    assert_eq!(register.note(&tags[AHEAD..], &[], reached).unwrap(), 2);
    assert_eq!(state().generation, 10);
    drop(register);
    let read = SuperblockFile::open(&RealDisk, dir.path(), Access::Read).unwrap().unwrap();
    assert!(read.state().ahead.iter().eq(tags[2..].iter().copied()));
}
