//! Whole transfers out of partial ones: the kernel may move less than it was asked to, or be interrupted.

use std::io::{self, ErrorKind};

use super::DiskFile;
use crate::storage::mutant::{Mutant, is_active};

/// Fills `buffer` from `offset` on. A file that ends before is an [`ErrorKind::UnexpectedEof`].
pub(crate) fn read_exact_at(
    file: &dyn DiskFile,
    mut buffer: &mut [u8],
    mut offset: u64,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `buffer` from `offset` on.
pub(crate) fn write_all_at<F: DiskFile + ?Sized>(
    file: &F,
    mut buffer: &[u8],
    mut offset: u64,
) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.write_at(buffer, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(_) if is_active(Mutant::BelieveShortWrite) => return Ok(()),
            Ok(count) => {
                buffer = &buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    /// Moves at most three bytes a call, and is interrupted before every one of them.
    #[derive(Debug, Default)]
    struct Hesitant {
        content: Mutex<Vec<u8>>,
        interrupted: Mutex<bool>,
    }

    impl Hesitant {
        fn interrupt(&self) -> io::Result<()> {
            let mut interrupted = self.interrupted.lock();
            *interrupted = !*interrupted;
            if *interrupted { Err(ErrorKind::Interrupted.into()) } else { Ok(()) }
        }
    }

    impl DiskFile for Hesitant {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            self.interrupt()?;
            let content = self.content.lock();
            let rest = content.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(buffer.len()).min(3);
            buffer[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        }

        fn write_at(&self, buffer: &[u8], offset: u64) -> io::Result<usize> {
            self.interrupt()?;
            let mut content = self.content.lock();
            assert_eq!(offset as usize, content.len(), "a partial write was passed over");
            let count = buffer.len().min(3);
            content.extend_from_slice(&buffer[..count]);
            Ok(count)
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn sync_all(&self) -> io::Result<()> {
            Ok(())
        }

        fn size(&self) -> io::Result<u64> {
            Ok(self.content.lock().len() as u64)
        }
    }

    #[test]
    fn short_and_interrupted_transfers_are_continued() {
        let file = Hesitant::default();
        write_all_at(&file, b"a haypile is built ahead of need", 0).unwrap();
        let mut back = [0; 32];
        read_exact_at(&file, &mut back, 0).unwrap();
        assert_eq!(&back, b"a haypile is built ahead of need");
    }

    #[test]
    fn reading_beyond_the_end_is_an_error_and_not_a_short_answer() {
        let file = Hesitant::default();
        write_all_at(&file, b"short", 0).unwrap();
        let error = read_exact_at(&file, &mut [0; 6], 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
