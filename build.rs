//! Tells cargo that a new file in static/ is a reason to build again: the files are embedded.

fn main() {
    println!("cargo::rerun-if-changed=static");
}
