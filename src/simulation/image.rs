//! The state of a simulated disk: what can be read, what is safe, and everything in between.
//!
//! # The fault model
//! Two views are kept apart. The *cached* one is what the running system reads: the newest of everything. The *durable*
//! one is what is there after a power cut for certain. What lies between them is a list of pending units, in the order in
//! which they were made:
//!
//! | unit | made by | durable after |
//! |---|---|---|
//! | a sector of 512 bytes of a file | a write | a sync of that file |
//! | a file's length | a write beyond its end | a sync of that file |
//! | a directory's entry: created, renamed, unlinked, a directory made | the operation of that name | a sync of that directory |
//!
//! A power cut decides on each unit by itself ([`Fate`]): it was written or not, whatever was made before or after it. So a
//! write tears at any sector, writes are reordered, a file may have its length before its data, or a name before either. A
//! sector that had durable bytes has its old or its new ones, never anything else: a single sector is the one thing that
//! is atomic. A sector behind the durable end of a file may be zeros or garbage as well.
//!
//! A rename is atomic: it is one unit. A sync makes durable what it is asked to and nothing else, so whoever forgets a
//! directory is found out. A sync that *fails* leaves its units neither durable nor pending: they can still be read, no later
//! sync will write them, and a power cut takes them away. That is what kernels do.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// What is written whole or not at all, in bytes.
pub const SECTOR: usize = 512;

const PAGE: usize = 4096;

/// A file on the disk, whatever its name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(usize);

/// What becomes of a pending unit in a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It was written.
    Kept,
    /// It was not.
    Dropped,
    /// Zeros are there instead; only of [fresh](Pending::is_fresh) sectors.
    Zeroed,
    /// Something else is there instead, made of this seed; only of [fresh](Pending::is_fresh) sectors.
    Garbage(u8),
}

/// A piece of a file. Its digest is made when somebody asks for it, and kept as long as the bytes are the same.
#[derive(Clone, Debug)]
struct Page {
    bytes: [u8; PAGE],
    digest: OnceLock<u64>,
}

impl Page {
    fn zeros() -> Arc<Page> {
        Arc::new(Page { bytes: [0; PAGE], digest: OnceLock::new() })
    }

    /// The bytes, to be changed: a copy, if others have the page too.
    fn change(page: &mut Arc<Page>) -> &mut [u8; PAGE] {
        let page = Arc::make_mut(page);
        page.digest = OnceLock::new();
        &mut page.bytes
    }

    fn digest(&self) -> u64 {
        let (words, _) = self.bytes.as_chunks();
        let mix = |sum: u64, word: &[u8; 8]| {
            (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        };
        *self.digest.get_or_init(|| words.iter().fold(0x243f_6a88_85a3_08d3, mix))
    }
}

/// Bytes of a file.
#[derive(Clone, Debug, Default)]
struct Content {
    pages: Vec<Arc<Page>>,
    length: u64,
}

impl Content {
    /// Changes the length; what is new is zeros.
    fn set_length(&mut self, length: u64) {
        let pages = (length as usize).div_ceil(PAGE);
        if length < self.length {
            self.pages.truncate(pages);
            let used = length as usize % PAGE;
            if let Some(last) = self.pages.last_mut().filter(|_| used > 0) {
                Page::change(last)[used..].fill(0);
            }
        } else {
            self.pages.resize_with(pages, Page::zeros);
        }
        self.length = length;
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let mut done = 0;
        while done < count {
            let at = offset as usize + done;
            let piece = (PAGE - at % PAGE).min(count - done);
            let page = &self.pages[at / PAGE].bytes[at % PAGE..][..piece];
            buffer[done..done + piece].copy_from_slice(page);
            done += piece;
        }
        count
    }

    fn sector(&self, index: u64) -> [u8; SECTOR] {
        let at = index as usize * SECTOR;
        let page = self.pages.get(at / PAGE);
        page.map_or([0; SECTOR], |page| {
            page.bytes[at % PAGE..][..SECTOR].try_into().expect("a sector lies within a page")
        })
    }

    /// Sets what of a sector lies before the end.
    fn set_sector(&mut self, index: u64, bytes: &[u8; SECTOR]) {
        let at = index as usize * SECTOR;
        let inside = (self.length as usize).saturating_sub(at).min(SECTOR);
        if let Some(page) = self.pages.get_mut(at / PAGE).filter(|_| inside > 0) {
            Page::change(page)[at % PAGE..][..inside].copy_from_slice(&bytes[..inside]);
        }
    }
}

/// What is in a sector instead of what was written there.
fn filling(fate: Fate) -> [u8; SECTOR] {
    let byte = if let Fate::Garbage(byte) = fate { byte } else { 0 };
    // Garbage that looks like the same byte again and again would be easy to tell.
    let mut bytes = [0; SECTOR];
    for (at, place) in bytes.iter_mut().enumerate().filter(|_| byte != 0) {
        *place = byte.wrapping_mul(at as u8 | 1) ^ (at >> 3) as u8;
    }
    bytes
}

#[derive(Clone, Debug)]
struct File {
    /// The name it was given last, for traces.
    path: PathBuf,
    cached: Content,
    durable: Content,
    /// Whether the two may differ.
    unsettled: bool,
    /// Whether they may differ in more than what is pending: something was given up by a failed sync, or changed by a failing medium.
    estranged: bool,
}

impl File {
    /// All that was pending is durable.
    fn settle(&mut self) {
        self.durable = self.cached.clone();
        self.unsettled = false;
    }

    /// What is not durable is gone.
    fn forget(&mut self) {
        self.cached = self.durable.clone();
        (self.unsettled, self.estranged) = (false, false);
    }
}

/// A change of the names on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NameChange {
    Link { path: PathBuf, file: FileId },
    Rename { from: PathBuf, to: PathBuf, file: FileId },
    Unlink { path: PathBuf },
    MakeDir { path: PathBuf },
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            NameChange::Link { path, .. }
            | NameChange::Unlink { path }
            | NameChange::MakeDir { path }
            | NameChange::Rename { to: path, .. } => path.parent(),
        }
    }
}

/// The names on the disk.
#[derive(Clone, Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, FileId>,
    dirs: BTreeSet<PathBuf>,
}

impl Names {
    fn apply(&mut self, change: &NameChange) {
        match change {
            NameChange::Link { path, file } => {
                self.files.insert(path.clone(), *file);
            }
            NameChange::Rename { from, to, file } => {
                if self.files.get(from) == Some(file) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *file);
            }
            NameChange::Unlink { path } => {
                self.files.remove(path);
            }
            NameChange::MakeDir { path } => {
                self.dirs.insert(path.clone());
            }
        }
    }

    /// Takes away what is in no directory.
    fn prune(&mut self) {
        let dirs = self.dirs.clone();
        let reachable = |path: &PathBuf| {
            path.ancestors().skip(1).all(|dir| dir.parent().is_none() || dirs.contains(dir))
        };
        self.dirs.retain(reachable);
        self.files.retain(|path, _| reachable(path));
    }
}

#[derive(Clone, Debug)]
enum Unit {
    Length { file: FileId, length: u64 },
    Sector { file: FileId, index: u64, bytes: Arc<[u8; SECTOR]>, fresh: bool },
    Name(NameChange),
}

/// A unit that a power cut decides on.
#[derive(Clone, Debug)]
pub struct Pending {
    /// The operation that made it, counted from the first one on this disk.
    pub operation: u64,
    unit: Unit,
}

impl Pending {
    /// Whether there were no durable bytes where this sector is.
    pub fn is_fresh(&self) -> bool {
        matches!(self.unit, Unit::Sector { fresh: true, .. })
    }

    /// Whether this is a sector of a file.
    pub fn is_sector(&self) -> bool {
        matches!(self.unit, Unit::Sector { .. })
    }

    /// Whether this is a length or a name. A journaling file system keeps those in order.
    pub fn is_metadata(&self) -> bool {
        !matches!(self.unit, Unit::Sector { .. })
    }
}

/// The state of a disk. Cheap to clone: content is shared.
#[derive(Clone, Debug, Default)]
pub struct Image {
    files: Vec<Arc<File>>,
    cached: Names,
    durable: Names,
    pending: Vec<Pending>,
}

impl Image {
    /// What a power cut would decide on, in the order in which it was made.
    pub fn pending(&self) -> &[Pending] {
        &self.pending
    }

    /// The disk after a power cut at this moment.
    ///
    /// # Panics
    /// If a sector that is not [fresh](Pending::is_fresh) is to be zeros or garbage: the model says that it cannot be.
    pub fn after_power_cut(&self, mut fate: impl FnMut(usize, &Pending) -> Fate) -> Image {
        self.after_rough_power_cut(|number, pending| {
            let fate = fate(number, pending);
            let whole = matches!(fate, Fate::Kept | Fate::Dropped);
            assert!(whole || pending.is_fresh(), "a single sector is atomic");
            fate
        })
    }

    /// The same on a medium that is worse than the model: any sector that was being written may be zeros or garbage
    /// afterwards. Who never writes over what is still needed does not notice.
    ///
    /// # Panics
    /// If a length or a name is to be zeros or garbage.
    pub fn after_rough_power_cut(&self, mut fate: impl FnMut(usize, &Pending) -> Fate) -> Image {
        let mut after = Image { pending: Vec::new(), ..self.clone() };
        let fates: Vec<Fate> =
            self.pending.iter().enumerate().map(|(number, unit)| fate(number, unit)).collect();
        // A file's length comes first: it does not depend on the order what of a kept sector lies within it.
        let (lengths, others): (Vec<_>, Vec<_>) = self
            .pending
            .iter()
            .zip(fates)
            .partition(|(pending, _)| matches!(pending.unit, Unit::Length { .. }));
        for (pending, fate) in lengths.into_iter().chain(others) {
            match (fate, &pending.unit) {
                (Fate::Kept, unit) => after.make_durable(unit),
                (Fate::Dropped, _) => {}
                (instead, unit) => {
                    assert!(pending.is_sector(), "only a sector can be zeros or garbage");
                    if let Unit::Sector { file, index, .. } = unit {
                        after.file_mut(*file).durable.set_sector(*index, &filling(instead));
                    }
                }
            }
        }
        after.durable.prune();
        after.cached = after.durable.clone();
        for file in after.files.iter_mut().filter(|file| file.unsettled) {
            Arc::make_mut(file).forget();
        }
        after
    }

    /// What a pending unit is, in words.
    pub fn describe(&self, pending: &Pending) -> String {
        match &pending.unit {
            Unit::Length { file, length } => {
                format!("length {length} of {}", self.path(*file).display())
            }
            Unit::Sector { file, index, .. } => {
                format!("sector {index} of {}", self.path(*file).display())
            }
            Unit::Name(NameChange::Link { path, .. }) => format!("name {}", path.display()),
            Unit::Name(NameChange::Rename { from, to, .. }) => {
                format!("name {} instead of {}", to.display(), from.display())
            }
            Unit::Name(NameChange::Unlink { path }) => format!("no name {}", path.display()),
            Unit::Name(NameChange::MakeDir { path }) => format!("directory {}", path.display()),
        }
    }

    /// The files there are, by path, with what would be read of them.
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let content = |file: &FileId| {
            let cached = &self.files[file.0].cached;
            let mut bytes = vec![0; cached.length as usize];
            cached.read(&mut bytes, 0);
            bytes
        };
        self.cached.files.iter().map(|(path, file)| (path.clone(), content(file))).collect()
    }

    /// A number that disks have in common which look the same to whoever reads them, and, but for a chance of one in 2^64, no others.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.cached.dirs.hash(&mut hasher);
        for (path, file) in &self.cached.files {
            let Content { pages, length } = &self.files[file.0].cached;
            (path, length).hash(&mut hasher);
            pages.iter().for_each(|page| page.digest().hash(&mut hasher));
        }
        hasher.finish()
    }

    /// Changes bytes of a file behind everybody's back, as a failing medium does: cached and durable ones.
    pub fn corrupt(&mut self, path: &Path, offset: u64, change: impl Fn(&mut [u8; SECTOR])) {
        let Ok(file) = self.find(path) else { return };
        let index = offset / SECTOR as u64;
        let file = self.file_mut(file);
        file.estranged |= file.unsettled;
        for content in [&mut file.cached, &mut file.durable] {
            let mut bytes = content.sector(index);
            change(&mut bytes);
            content.set_sector(index, &bytes);
        }
    }

    /// Bytes that the files take which have a name.
    pub(super) fn used(&self) -> u64 {
        self.cached.files.values().map(|file| self.files[file.0].cached.length).sum()
    }

    pub(super) fn path(&self, file: FileId) -> &Path {
        &self.files[file.0].path
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<FileId> {
        let found = self.cached.files.get(path).copied();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        if dir.parent().is_some() && !self.cached.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = self.cached.files.keys().chain(&self.cached.dirs);
        let inside = all.filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    pub(super) fn make_dirs(&mut self, operation: u64, path: &Path) {
        let missing: Vec<_> = path
            .ancestors()
            .filter(|dir| dir.parent().is_some() && !self.cached.dirs.contains(*dir))
            .map(Path::to_owned)
            .collect();
        for path in missing.into_iter().rev() {
            self.change(operation, NameChange::MakeDir { path });
        }
    }

    pub(super) fn create(&mut self, operation: u64, path: &Path) -> io::Result<FileId> {
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = FileId(self.files.len());
        self.files.push(Arc::new(File {
            path: path.to_owned(),
            cached: Content::default(),
            durable: Content::default(),
            unsettled: false,
            estranged: false,
        }));
        self.change(operation, NameChange::Link { path: path.to_owned(), file });
        Ok(file)
    }

    pub(super) fn rename(&mut self, operation: u64, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.find(from)?;
        to.clone_into(&mut self.file_mut(file).path);
        let change = NameChange::Rename { from: from.to_owned(), to: to.to_owned(), file };
        self.change(operation, change);
        Ok(())
    }

    pub(super) fn remove(&mut self, operation: u64, path: &Path) -> io::Result<()> {
        self.find(path)?;
        self.change(operation, NameChange::Unlink { path: path.to_owned() });
        Ok(())
    }

    pub(super) fn read(&self, file: FileId, buffer: &mut [u8], offset: u64) -> usize {
        self.files[file.0].cached.read(buffer, offset)
    }

    pub(super) fn length(&self, file: FileId) -> u64 {
        self.files[file.0].cached.length
    }

    pub(super) fn write(&mut self, operation: u64, id: FileId, bytes: &[u8], offset: u64) {
        let mut units = Vec::new();
        let file = Arc::make_mut(&mut self.files[id.0]);
        file.unsettled = true;
        let end = offset + bytes.len() as u64;
        if end > file.cached.length {
            file.cached.set_length(end);
            units.push(Unit::Length { file: id, length: end });
        }
        let sector = SECTOR as u64;
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let (index, inside) = (at / sector, (at % sector) as usize);
            let piece = (SECTOR - inside).min(bytes.len() - done);
            let mut whole = file.cached.sector(index);
            whole[inside..inside + piece].copy_from_slice(&bytes[done..done + piece]);
            file.cached.set_sector(index, &whole);
            let fresh = index * sector >= file.durable.length;
            units.push(Unit::Sector { file: id, index, bytes: Arc::new(whole), fresh });
            done += piece;
        }
        self.pending.extend(units.into_iter().map(|unit| Pending { operation, unit }));
    }

    /// Makes a file's bytes and length durable; or, if it `fails`, forgets that they are not.
    pub(super) fn sync(&mut self, file: FileId, fails: bool) {
        let of_file = |unit: &Unit| match unit {
            Unit::Length { file: of, .. } | Unit::Sector { file: of, .. } => *of == file,
            Unit::Name(_) => false,
        };
        let settled = self.settle(of_file);
        if settled.is_empty() {
            return;
        }
        if fails {
            self.file_mut(file).estranged = true;
        } else if self.files[file.0].estranged {
            settled.iter().for_each(|pending| self.make_durable(&pending.unit));
        } else {
            self.file_mut(file).settle();
        }
    }

    /// Makes a directory's entries durable. If it `fails` they stay pending: a journal that cannot be written to is not passed
    /// over.
    pub(super) fn sync_dir(&mut self, dir: &Path, fails: bool) {
        if !fails {
            let of_dir =
                |unit: &Unit| matches!(unit, Unit::Name(change) if change.directory() == Some(dir));
            let settled = self.settle(of_dir);
            settled.iter().for_each(|pending| self.make_durable(&pending.unit));
        }
    }

    /// What was pending, and is not any more.
    fn settle(&mut self, concerned: impl Fn(&Unit) -> bool) -> Vec<Pending> {
        let (now, later) = std::mem::take(&mut self.pending)
            .into_iter()
            .partition::<Vec<_>, _>(|pending| concerned(&pending.unit));
        self.pending = later;
        now
    }

    fn make_durable(&mut self, unit: &Unit) {
        match unit {
            Unit::Length { file, length } => {
                let durable = &mut self.file_mut(*file).durable;
                durable.set_length(durable.length.max(*length));
            }
            Unit::Sector { file, index, bytes, .. } => {
                self.file_mut(*file).durable.set_sector(*index, bytes);
            }
            Unit::Name(change) => self.durable.apply(change),
        }
    }

    fn change(&mut self, operation: u64, change: NameChange) {
        self.cached.apply(&change);
        self.pending.push(Pending { operation, unit: Unit::Name(change) });
    }

    fn file_mut(&mut self, file: FileId) -> &mut File {
        Arc::make_mut(&mut self.files[file.0])
    }
}

#[cfg(test)]
mod tests;
