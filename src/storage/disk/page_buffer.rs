//! Memory for whole pages.

/// Bytes of a page: what reads and writes past the page cache have to begin and end on. Every disk asks for this or less.
const PAGE: usize = 4096;

/// The first allocation, in bytes.
const SMALLEST: usize = 64 << 10;

/// Bytes that begin on a page boundary in memory, wherever they grow to: what is written past the page cache has to.
#[derive(Debug, Default)]
pub(crate) struct PageBuffer {
    /// Some bytes that do not count, up to the boundary, and those that do.
    bytes: Vec<u8>,
    start: usize,
}

impl PageBuffer {
    /// Makes room for so many bytes more: [`tail`](Self::tail) can take them without moving.
    pub(crate) fn reserve(&mut self, more: usize) {
        let needed = self.bytes.len() + more;
        if needed <= self.bytes.capacity() {
            return;
        }
        // As `Vec` grows, but to a boundary of its own.
        let room = (self.bytes.capacity() * 2).max(needed).max(SMALLEST) + PAGE;
        let mut grown: Vec<u8> = Vec::with_capacity(room);
        let start = grown.as_ptr().align_offset(PAGE);
        grown.resize(start, 0);
        grown.extend_from_slice(self.as_slice());
        *self = PageBuffer { bytes: grown, start };
    }

    /// Where bytes are appended: no more than there is [room](Self::reserve) for.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends zeros until there are `length` bytes.
    pub(crate) fn pad(&mut self, length: usize) {
        self.reserve(length.saturating_sub(self.len()));
        self.bytes.resize(self.start + length, 0);
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// The memory that it holds, in bytes.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_begin_on_a_page_boundary_however_often_they_had_to_move() {
        let mut buffer = PageBuffer::default();
        let mut expected = Vec::new();
        for round in 0..300_u32 {
            let piece = vec![round as u8; 1 + round as usize * 7];
            buffer.reserve(piece.len());
            let before = buffer.as_slice().as_ptr();
            buffer.tail().extend_from_slice(&piece);
            assert_eq!(buffer.as_slice().as_ptr(), before, "it moved where it had room");
            expected.extend_from_slice(&piece);
            assert_eq!(buffer.as_slice().as_ptr().align_offset(PAGE), 0);
        }
        assert_eq!(buffer.as_slice(), expected);
        buffer.pad(expected.len() + 5);
        assert_eq!(buffer.as_slice()[expected.len()..], [0; 5]);
        let capacity = buffer.capacity();
        buffer.clear();
        assert_eq!((buffer.len(), buffer.capacity()), (0, capacity));
    }
}
