//! How the system's allocator keeps memory that is free.

/// How much of a body is received at once, in bytes. Blocks from 128 KiB on are fetched from the system and given back
/// one by one, so larger buffers would cost a fault for each of their pages, each time.
pub const RECEIVE_BUFFER: usize = 64 << 10;

/// Lets free memory go back to the system, and be used again by all threads. Call it before there are threads.
///
/// By itself glibc gives almost every helper thread a pool of its own, up to eight for each processor, and what one
/// thread has freed there no other one uses. It also raises, for each large block that is freed, the size from which
/// blocks are returned to the system. Together that looks like a leak for hours. Other allocators are left as they are.
pub fn return_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const BLOCK: std::ffi::c_int = 128 << 10;
        for (parameter, value) in
            [(glibc::ARENA_MAX, 2), (glibc::TRIM_THRESHOLD, BLOCK), (glibc::MMAP_THRESHOLD, BLOCK)]
        {
            // What it refuses stays as it is.
            glibc::mallopt(parameter, value);
        }
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod glibc {
    use std::ffi::c_int;

    pub(super) const TRIM_THRESHOLD: c_int = -1;
    pub(super) const MMAP_THRESHOLD: c_int = -3;
    pub(super) const ARENA_MAX: c_int = -8;

    #[expect(unsafe_code, reason = "a function of the system's library that takes two numbers")]
    unsafe extern "C" {
        pub(super) safe fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
}
