//! nginx in front of a plain port, in one process: with TLS as deploy/proxy/nginx.conf has it, or with a cache of polls as
//! docs/FALLBACKS.md has it.

// Each benchmark compiles this for itself and uses a part of it.
#![allow(dead_code)]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fanline::bench::cpu::{Usage, usage};

const START_DEADLINE: Duration = Duration::from_secs(10);
const GLANCE: Duration = Duration::from_millis(20);

/// Killed when it is dropped.
pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
}

impl Nginx {
    /// None without the program, which tests/setup unpacks. `pair`: `CERTIFICATE:KEY`.
    pub fn start(upstream: SocketAddr, pair: &str) -> Option<Nginx> {
        let (certificate, key) = pair.split_once(':').expect("two files");
        Nginx::run(|port| {
            format!(
                "server {{ listen 127.0.0.1:{port} ssl backlog=4096;\n\
                 ssl_certificate {certificate}; ssl_certificate_key {key};\n\
                 location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Host $host;\n\
                 proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;\n\
                 proxy_read_timeout 60s; }} }}"
            )
        })
    }

    /// The same without TLS, and with a cache that lets one of the requests through that ask for the same.
    pub fn start_cache(upstream: SocketAddr) -> Option<Nginx> {
        Nginx::run(|port| {
            format!(
                "proxy_cache_path cache keys_zone=fanline:10m max_size=100m inactive=1m;\n\
                 keepalive_timeout 1h; keepalive_requests 1000000;\n\
                 upstream fanline {{ server {upstream}; keepalive 16; }}\n\
                 server {{ listen 127.0.0.1:{port} backlog=4096;\n\
                 location / {{ proxy_pass http://fanline; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
                 proxy_cache fanline; proxy_cache_key $request_uri; proxy_cache_lock on;\n\
                 proxy_cache_lock_timeout 40s; proxy_cache_lock_age 40s; proxy_read_timeout 40s; }} }}"
            )
        })
    }

    fn run(servers: impl FnOnce(u16) -> String) -> Option<Nginx> {
        let program = program()?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-nginx");
        std::fs::create_dir_all(&folder).expect("a writable target directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let file = folder.join("nginx.conf");
        let servers = servers(port);
        let text = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
             events {{ worker_connections 50000; }}\n\
             http {{ access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;\n\
             uwsgi_temp_path u; scgi_temp_path s;\n{servers} }}\n"
        );
        std::fs::write(&file, text).expect("a writable target directory");
        // Its libraries lie beside it if it was unpacked and not installed.
        let libraries = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
        let mut command = Command::new(&program);
        command.env("LD_LIBRARY_PATH", program.ancestors().nth(2)?.join(libraries));
        command.args(["-e", "stderr", "-p"]).arg(&folder).arg("-c").arg(&file).stdin(Stdio::null());
        let child = command.spawn().expect("nginx starts");
        let mut nginx = Nginx { child, address: ([127, 0, 0, 1], port).into() };
        let started = Instant::now();
        while TcpStream::connect(nginx.address).is_err() {
            let ended = nginx.child.try_wait().expect("a child of ours");
            assert!(ended.is_none() && started.elapsed() < START_DEADLINE, "expected nginx to listen: {ended:?}");
            std::thread::sleep(GLANCE);
        }
        Some(nginx)
    }

    pub fn usage(&self) -> Usage {
        usage(self.child.id()).expect("/proc")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("tmp lies in the target directory");
    let unpacked = ["tools", "peers"].map(|folder| target.join(folder).join("usr/sbin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = unpacked.into_iter().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join("nginx")).find(|file| file.is_file())
}
