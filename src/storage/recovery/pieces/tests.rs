use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::storage::disk::DiskFile;
use crate::storage::draft::Draft;
use crate::storage::message::Message;
use crate::storage::record::Reference;
use crate::storage::segment::SegmentHeader;
use crate::storage::units::{QueueId, SegmentId, Sequence};

/// A file that notes the largest piece that was read of it.
#[derive(Debug)]
struct Noting {
    bytes: Mutex<Vec<u8>>,
    largest: AtomicUsize,
}

impl DiskFile for Noting {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.largest.fetch_max(buffer.len(), Ordering::SeqCst);
        let bytes = self.bytes.lock();
        let rest = bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.lock().len() as u64)
    }
}

const SEGMENT: u64 = 32 << 20;

/// A segment with a group of messages with bodies of these sizes.
fn segment(bodies: &[usize]) -> (Arc<Segment>, Arc<Noting>) {
    let id = SegmentId(3);
    let header = SegmentHeader { store: *b"0123456789abcdef", id, slots: 1, salt: 7 };
    let lsn = id.start(SEGMENT).plus(PAGE);
    let mut group = vec![0; GROUP_HEADER];
    for (place, size) in (0..).zip(bodies) {
        let (at, mut record) = (lsn.plus(group.len() as u64), vec![0; FRAME]);
        let message = Message::new("header", vec![7; *size]);
        let references = [Reference { queue: QueueId(1), sequence: Sequence(place) }];
        MessageRecord::encode(&mut record, Draft::from(&message), &references);
        record::seal(&mut record, RecordKind::Message, at, header.seed());
        group.extend_from_slice(&record);
    }
    let own = GroupHeader {
        provisional: false,
        lsn,
        previous: lsn,
        previous_salt: 0,
        opening: 0,
        durable: lsn,
        length: (group.len() - GROUP_HEADER) as u32,
        records: bodies.len() as u32,
    };
    group[..GROUP_HEADER].copy_from_slice(&own.encode(header.seed()));
    let mut bytes = vec![0; PAGE as usize];
    bytes.append(&mut group);
    bytes.resize(SEGMENT as usize, 0);
    let file = Arc::new(Noting { bytes: Mutex::new(bytes), largest: 0.into() });
    (Arc::new(Segment::found(header, Path::new("/"), file.clone())), file)
}

/// The places and sizes of the messages of the group.
fn read(segment: &Arc<Segment>) -> Result<Vec<(u64, usize)>, String> {
    let mut pieces = Pieces::new(segment.clone(), SEGMENT, SEGMENT);
    let group = pieces.check(PAGE).map_err(|error| format!("{error:?}"))?;
    let mut found = Vec::new();
    let scanned = group.records(segment, SEGMENT, |_, part| {
        let message = MessageRecord::decode_front(part.payload, part.missing).map_err(|_| ())?;
        found.push((message.references().next().unwrap().sequence.0, part.size()));
        Ok::<_, ()>(())
    });
    scanned.map_err(|error| format!("{error:?}"))?;
    Ok(found)
}

#[test]
fn groups_and_records_of_any_size_are_read_in_bounded_pieces() {
    let mebibyte = 1 << 20;
    for bodies in [
        vec![100; 1000],
        vec![mebibyte; 20],
        vec![5 * mebibyte],
        vec![1, 25 * mebibyte, 2],
        vec![3 * mebibyte, 4 * mebibyte - 30, 4 * mebibyte, 4 * mebibyte + 1, 9],
    ] {
        let (segment, file) = segment(&bodies);
        let found = read(&segment).unwrap();
        // Frame, two lengths, the queue, its place of one or two bytes, and the header.
        let front = |place| FRAME + 4 + usize::from(place > 127) + 6;
        let sizes = |(place, size): (u64, &usize)| (place, size + front(place));
        assert!(found.into_iter().eq((0..).zip(&bodies).map(sizes)));
        let largest = file.largest.load(Ordering::SeqCst) as u64;
        assert!(largest <= PIECE, "{largest} bytes were read at once");
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_large_record_is_told() {
    let (segment, file) = segment(&[10, 6 << 20, 10]);
    let record = PAGE as usize + GROUP_HEADER + FRAME + 20;
    let end = record + FRAME + 10 + (6 << 20);
    for at in [record, record + 5, record + 8, record + 12, record + (1 << 20) + 50, end - 1, end] {
        file.bytes.lock()[at] ^= 4;
        assert!(read(&segment).is_err(), "byte {at}");
        file.bytes.lock()[at] ^= 4;
    }
    assert_eq!(read(&segment).unwrap().len(), 3);
}

/// A segment of which the group begins with these bytes.
fn segment_of(content: &[u8]) -> (Pieces, Arc<Noting>) {
    let (segment, file) = segment(&[1]);
    let begin = PAGE as usize;
    file.bytes.lock()[begin..begin + content.len()].copy_from_slice(content);
    (Pieces::of_file(segment, SEGMENT).unwrap(), file)
}

fn search(pieces: &mut Pieces, from: u64, end: u64) -> (Option<u64>, bool) {
    let mut search = Search::new(end - from);
    let found = pieces.search(&mut search, from, end).unwrap();
    (found, search.has_given_up())
}

#[test]
fn a_record_behind_garbage_is_found_wherever_pieces_and_windows_end() {
    for (garbage, payload) in [
        (100, 3),
        (WINDOW as usize - 5, 3),
        (WINDOW as usize - 12, 100),
        (PIECE as usize - 7, 3),
        (100, PIECE as usize + 10),
    ] {
        let (segment, _) = segment(&[]);
        let mut record = vec![0; FRAME];
        record.resize(FRAME + payload, 0x55);
        let at = PAGE + garbage as u64;
        let lsn = segment.id().start(SEGMENT).plus(at);
        record::seal(&mut record, RecordKind::Opened, lsn, segment.seed);
        let mut content = vec![0xa5; garbage];
        content.extend_from_slice(&record);
        let (mut pieces, file) = segment_of(&content);
        let end = at + record.len() as u64;
        // The piece in memory ends in the record, where the garbage is as long as that.
        pieces.bytes(PAGE, PIECE).unwrap();
        let from = if garbage > 2 * WINDOW as usize { at - 50 } else { PAGE };
        assert_eq!(search(&mut pieces, from, SEGMENT), (Some(at), false), "{garbage} {payload}");
        assert_eq!(search(&mut pieces, from, end), (Some(at), false), "{garbage} {payload}");
        let cut = end.min(at + WINDOW) - 1;
        assert_eq!(search(&mut pieces, from, cut), (None, false), "{garbage} {payload}");
        let behind = end.min(at + WINDOW);
        assert_eq!(search(&mut pieces, at + 1, behind), (None, false), "{garbage} {payload}");
        assert!(file.largest.load(Ordering::SeqCst) as u64 <= PIECE);
    }
}

/// Every place looked like a record that goes on to the end of the segment: the search was quadratic.
#[test]
fn a_message_made_of_frames_does_not_hold_the_search_up() {
    let mut bytes = Vec::new();
    for n in (0..600_000u32).rev() {
        bytes.extend_from_slice(&[1, 2, 3, 4]);
        bytes.extend_from_slice(&(n * 12).to_le_bytes());
        bytes.extend_from_slice(&[1, 0, 0, 0]);
    }
    let end = PAGE + bytes.len() as u64;
    let (mut pieces, file) = segment_of(&bytes);
    assert_eq!(search(&mut pieces, PAGE + 1, end), (None, true));
    assert!(file.largest.load(Ordering::SeqCst) as u64 <= PIECE);
}
