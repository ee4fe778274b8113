//! What the allocator keeps of what was freed. A hub runs for months, and now and then needs much at once: what it had then
//! would stay with glibc, in one arena for each of its threads.

use std::time::Duration;

/// How often what is free is given back to the system.
#[cfg(target_env = "gnu")]
const GIVEN_BACK: Duration = Duration::from_secs(300);

/// Sets the allocator up: few arenas, and large pieces always apart.
///
/// # Safety
/// This process has one thread (mallopt(3): it is unsafe beside others).
#[cfg(target_env = "gnu")]
pub unsafe fn prepare() {
    use nix::libc;
    // One in use for each of some threads at a time; others wait for a moment.
    const ARENAS: libc::c_int = 4;
    // Beyond this a piece is mapped for itself, and unmapped when it is freed. Set, it does not grow with what was freed.
    const APART: libc::c_int = 256 << 10;
    // SAFETY: numbers only, and our caller says that nobody else allocates.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
        libc::mallopt(libc::M_MMAP_THRESHOLD, APART);
    }
}

/// Gives back what is free, again and again.
#[cfg(target_env = "gnu")]
pub(crate) async fn give_back() {
    loop {
        tokio::time::sleep(GIVEN_BACK).await;
        // SAFETY: it takes a number, and may be called by any thread at any time (malloc_trim(3)).
        let _ = tokio::task::spawn_blocking(|| unsafe { nix::libc::malloc_trim(0) }).await;
    }
}

/// Other allocators do it by themselves.
///
/// # Safety
/// None is needed.
#[cfg(not(target_env = "gnu"))]
pub unsafe fn prepare() {}

/// Other allocators do it by themselves.
#[cfg(not(target_env = "gnu"))]
pub(crate) async fn give_back() {
    std::future::pending().await
}
