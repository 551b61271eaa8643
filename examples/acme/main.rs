//! A made-up venue to write a profile for: the walk in docs/PROFILES.md.
//!
//! `cargo run --example acme -- 127.0.0.1:9001`.

mod venue;

use std::net::TcpListener;

fn main() {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:9001".to_string());
    match TcpListener::bind(&address) {
        Ok(listener) => {
            println!("acme is open on ws://{address}");
            venue::serve(&listener);
        }
        Err(error) => {
            eprintln!("error: expected to listen on `{address}`: {error}");
            std::process::exit(1);
        }
    }
}
