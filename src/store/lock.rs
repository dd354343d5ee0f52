//! One `watch` per store.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Held for as long as a `watch` writes. The operating system lets go of it however the process ends.
#[derive(Debug)]
pub(super) struct StoreLock {
    _file: File,
}

/// A `status` that looks holds the lock for a moment; a `watch` that starts just then waits this long.
const PATIENCE: Duration = Duration::from_secs(1);

fn lock_path(store: &Path) -> PathBuf {
    let mut name = store.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

impl StoreLock {
    /// Takes the lock; nothing when it cannot be made, which is the disk's trouble and not another `watch`.
    ///
    /// # Errors
    /// A sentence when another process has it.
    pub(super) fn take(store: &Path) -> Result<Option<Self>, String> {
        let path = lock_path(store);
        let made = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let Ok(file) = made else {
            return Ok(None);
        };
        let until = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    std::thread::sleep(PATIENCE / 20);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(format!(
                        "another `mcpprobe watch` uses the store {}: stop it, or give this one another `path` in [store]",
                        store.display()
                    ));
                }
                Err(TryLockError::Error(error)) => {
                    return Err(format!("cannot lock {}: {error}", path.display()));
                }
            }
        }
    }
}

/// Whether a `watch` is writing to `store` now.
pub fn is_watched(store: &Path) -> bool {
    let Ok(file) = OpenOptions::new().write(true).open(lock_path(store)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}
