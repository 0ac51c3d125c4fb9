//! The program `smartlog`; see [`smartlog::cli`].

fn main() -> std::process::ExitCode {
    smartlog::cli::main()
}
