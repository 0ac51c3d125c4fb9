//! The program `smartlog`; see [`smartlog::cli`].

/// Of the processor time at full speed a tenth or more went into the system's allocator, mostly for librdkafka, which asks
/// it for each record.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    use_small_pages();
    smartlog::cli::main()
}

/// The allocator asks for huge pages, of which each is resident as a whole once a byte of it was written: a fifth more
/// memory at full speed, for no time won.
#[cfg(target_os = "linux")]
fn use_small_pages() {
    // A kernel that has none refuses, and needs no more.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

#[cfg(not(target_os = "linux"))]
fn use_small_pages() {}
