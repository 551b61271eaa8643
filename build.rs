//! Tells cargo that a new file of the page or of the client module is a reason to build again: the files are embedded.

fn main() {
    println!("cargo::rerun-if-changed=static");
    println!("cargo::rerun-if-changed=clients/js/src");
}
