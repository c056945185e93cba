//! Which folders lead to a file, whatever symbolic links are on the way.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

/// As many symbolic links as Linux follows in one path.
const LINKS_MAX: usize = 40;

/// What is to be watched.
#[derive(Default)]
pub(super) struct Way {
    pub(super) folders: BTreeSet<PathBuf>,
    /// The paths whose events matter: each link, the first part that is missing or else the file, and
    /// the folders themselves.
    pub(super) relevant: BTreeSet<PathBuf>,
    /// Files that are mount points. Their events belong to the folder they were mounted from, which may be out of
    /// reach, so they are watched themselves.
    pub(super) mounted: BTreeSet<PathBuf>,
}

/// The ways to all of `paths`, which are absolute.
pub(super) fn ways_to(paths: &[PathBuf]) -> Way {
    let mut way = Way::default();
    paths.iter().for_each(|path| way.add(path));
    way
}

impl Way {
    /// Follows `path` as the kernel does; what is left of it is never more than so many links of limited length.
    fn add(&mut self, path: &Path) {
        let mut rest: VecDeque<OsString> = parts(path).collect();
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(part);
            let kind = fs::symlink_metadata(&next).map(|meta| meta.file_type());
            let target = match &kind {
                Ok(kind) if kind.is_symlink() && links < LINKS_MAX => fs::read_link(&next).ok(),
                _ => None,
            };
            if target.is_some() || kind.is_err() || rest.is_empty() {
                self.relevant.extend([next.clone(), at.clone()]);
                self.folders.insert(at.clone());
            }
            match target {
                Some(target) => {
                    links += 1;
                    if target.is_absolute() {
                        at = PathBuf::from("/");
                    }
                    rest = parts(&target).chain(rest).collect();
                }
                None if kind.is_err() => break,
                None => {
                    if rest.is_empty() && kind.is_ok_and(|kind| kind.is_file()) && is_mount_point(&next) {
                        self.folders.insert(next.clone());
                        self.mounted.insert(next.clone());
                    }
                    at = next;
                }
            }
        }
    }
}

/// True for a file that is mounted by itself, as containers do with single files. False where the kernel cannot tell.
fn is_mount_point(path: &Path) -> bool {
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// The names in a path; `..` is kept, because what it means depends on the links before it.
fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    })
}
