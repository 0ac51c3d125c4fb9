//! The migrations are embedded by a macro that sees the files, but not that a file was added.

fn main() {
    println!("cargo::rerun-if-changed=../schema/migrations");
}
