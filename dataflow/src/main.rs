//! The program `smartlog`; see [`smartlog::cli`].

/// Of the processor time at full speed a tenth or more went into the system's allocator, mostly for librdkafka, which asks
/// it for each record.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    smartlog::cli::main()
}
