//! Making the file of a segment: a new one, or a dead one that is taken over.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::{FreeFile, SegmentPool};
use crate::storage::disk::{DiskFile, is_out_of_descriptors, write_all_at};
use crate::storage::mutant::{Mutant, is_active};
use crate::storage::segment::{Segment, unfinished_file_name};
use crate::storage::units::SegmentId;

/// Why a file was not made.
pub(super) enum Trouble {
    /// The disk, or the user's share of it, is full. Nothing is left of the attempt, and it may be made again.
    NoRoom,
    /// This is final.
    Failed(io::Error),
}

/// What may be tried again: creating, writing and renaming. Not a sync that failed, be it for lack of room: nobody knows
/// what became of what it was to make durable.
fn retryable(error: io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Trouble::NoRoom,
        // It passes as well, when others close files.
        _ if is_out_of_descriptors(&error) => Trouble::NoRoom,
        _ => Trouble::Failed(error),
    }
}

impl SegmentPool {
    /// Makes a file of several slots, for a segment that is about to be asked for, and syncs nothing. Returns `false` if there is
    /// no room for it: so a record that is larger than a segment is refused before it is in the log, where all others would
    /// wait behind it.
    pub(crate) fn reserve_large(&self, slots: u32) -> Result<bool, String> {
        let number = {
            let mut state = self.state.lock();
            state.reserved += 1;
            state.reserved
        };
        // An open removes it if it is never used. No segment ever has such a number.
        let path = self.config.dir.join(unfinished_file_name(SegmentId(u64::MAX - number)));
        let made = self.config.disk.create(&path).map_err(retryable).and_then(|file| {
            file.allocate(self.config.segment_size * u64::from(slots)).map_err(retryable)?;
            Ok(file)
        });
        match made {
            Ok(file) => {
                self.state.lock().large.push((slots, FreeFile { path, file }));
                Ok(true)
            }
            Err(trouble) => {
                self.remove_unfinished(&path);
                match trouble {
                    Trouble::NoRoom => Ok(false),
                    Trouble::Failed(error) => {
                        Err(format!("cannot prepare segment {}: {error}", path.display()))
                    }
                }
            }
        }
    }

    /// Makes the file of a segment under a passing name, then gives it its own name. What a crash leaves under the
    /// passing name was never in use.
    pub(super) fn make(
        &self,
        segment: &Segment,
        recycled: Option<FreeFile>,
    ) -> Result<Arc<dyn DiskFile>, Trouble> {
        let unfinished = self.config.dir.join(unfinished_file_name(segment.id()));
        let made = match recycled {
            Some(free) => self.take_over(segment, free, &unfinished),
            None => self.write_whole(segment, &unfinished),
        };
        let made = made.and_then(|file| {
            self.config.disk.rename(&unfinished, &segment.path).map_err(retryable)?;
            if !is_active(Mutant::SkipDirectorySync) {
                self.config.disk.sync_dir(&self.config.dir).map_err(Trouble::Failed)?;
            }
            Ok(file)
        });
        if made.is_err() {
            self.remove_unfinished(&unfinished);
        }
        made
    }

    /// Removes a part of a file: it helps nobody, least of all on a full disk. What matters is the error before.
    fn remove_unfinished(&self, unfinished: &Path) {
        if let Err(error) = self.config.disk.remove(unfinished) {
            tracing::debug!(%error, file = %unfinished.display(), "left behind");
        }
    }

    /// Gives a dead file a new header. It has to lose its old name first, for good: recovery looks at every segment
    /// behind the checkpoint, used or not, and one that says that it is another is damage to it.
    fn take_over(
        &self,
        segment: &Segment,
        free: FreeFile,
        unfinished: &Path,
    ) -> Result<Arc<dyn DiskFile>, Trouble> {
        if let Err(error) = self.config.disk.rename(&free.path, unfinished) {
            // It still has its old name, and is as good as before.
            let mut state = self.state.lock();
            match segment.header.slots {
                1 => state.free.push(free),
                slots => state.large.push((slots, free)),
            }
            drop(state);
            return Err(retryable(error));
        }
        if !is_active(Mutant::KeepOldName) {
            self.config.disk.sync_dir(&self.config.dir).map_err(Trouble::Failed)?;
        }
        if free.file.links().map_err(Trouble::Failed)? > 1 {
            // A copy of the store that was made of hard links has this file as well, and needs what is in it.
            self.config.disk.remove(unfinished).map_err(Trouble::Failed)?;
            return self.write_whole(segment, unfinished);
        }
        write_all_at(&*free.file, &segment.header.encode(), 0).map_err(retryable)?;
        if !is_active(Mutant::SkipFileSync) {
            free.file.sync_data().map_err(Trouble::Failed)?;
        }
        Ok(free.file)
    }

    /// Makes a new file, full of zeros and synced.
    fn write_whole(
        &self,
        segment: &Segment,
        unfinished: &Path,
    ) -> Result<Arc<dyn DiskFile>, Trouble> {
        let file = self.config.disk.create(unfinished).map_err(retryable)?;
        let size = self.config.segment_size * u64::from(segment.header.slots);
        file.fill(size).map_err(retryable)?;
        write_all_at(&*file, &segment.header.encode(), 0).map_err(retryable)?;
        if !is_active(Mutant::SkipFileSync) {
            file.sync_all().map_err(Trouble::Failed)?;
        }
        Ok(file)
    }
}
