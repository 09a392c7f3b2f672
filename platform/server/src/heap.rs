//! The heap of this program's processes.

/// Arenas of glibc's allocator. It makes up to eight for each core, and what was freed in one is not
/// used by the threads of another: after many pushes at once a platform held some ten megabytes
/// of nothing.
#[cfg(target_env = "gnu")]
const ARENAS: libc::c_int = 2;
/// Blocks from this size are mapped on their own and given back at once, bytes. A fixed number keeps
/// glibc from raising it after the first large block that is freed.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES_MIN: libc::c_int = 256 * 1024;

/// Sets up the allocator for a process that lives long and is mostly idle. Only before the first
/// thread is started.
pub fn stay_small() {
    #[cfg(target_env = "gnu")]
    {
        #[expect(unsafe_code, reason = "it sets two numbers of the allocator, before any thread")]
        // SAFETY: mallopt(3) takes any number; one that it does not know changes nothing.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, ARENAS);
            libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        }
    }
}
