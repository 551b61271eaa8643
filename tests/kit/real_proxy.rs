//! nginx and haproxy as they are, for the time of a test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use super::{eventually, skip_without_tool, tool};

/// The real proxy, with files in a folder of its own.
pub struct Proxy {
    child: Child,
    pub address: SocketAddr,
}

impl Proxy {
    /// None if the program is missing. `config`: the text of its file, for the port that it is to listen on.
    pub fn start(test: &str, program: &str, config: impl FnOnce(u16) -> String) -> Option<Proxy> {
        let Some(path) = tool(program) else {
            skip_without_tool(test, program);
            return None;
        };
        let folder = super::scratch().join("proxies").join(test);
        // What an earlier run has cached would be an expired answer, past which nginx lets everyone through.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a writable target directory");
        let port = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").port();
        let file = folder.join("proxy.conf");
        std::fs::write(&file, config(port)).expect("a writable target directory");
        let mut command = Command::new(&path);
        match program {
            "nginx" => command.args(["-e", "stderr", "-p"]).arg(&folder).arg("-c").arg(&file),
            _ => command.args(["-db", "-f"]).arg(&file),
        };
        // Its libraries lie beside it if it was unpacked and not installed.
        let libraries =
            path.ancestors().nth(2).expect("a folder").join(format!("lib/{}-linux-gnu", std::env::consts::ARCH));
        command.env("LD_LIBRARY_PATH", libraries).stdin(Stdio::null());
        let mut proxy =
            Proxy { child: command.spawn().expect("the proxy starts"), address: ([127, 0, 0, 1], port).into() };
        eventually("the proxy listens", || {
            let ended = proxy.child.try_wait().expect("a child of ours");
            assert!(ended.is_none(), "the proxy has ended: {ended:?}");
            TcpStream::connect(proxy.address).ok()
        });
        Some(proxy)
    }

    /// nginx with these lines in its `server`, in front of `upstream`.
    pub fn nginx(test: &str, upstream: SocketAddr, headers: &str) -> Option<Proxy> {
        Proxy::start(test, "nginx", |port| {
            nginx_around(&format!(
                "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1;\n\
                 proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade;\n\
                 proxy_set_header Connection upgrade; {headers} }} }}\n"
            ))
        })
    }

    pub fn haproxy(test: &str, upstream: SocketAddr, mode: &str, how: &str) -> Option<Proxy> {
        Proxy::start(test, "haproxy", |port| {
            format!(
                "defaults\n mode {mode}\n timeout connect 9s\n timeout client 60s\n timeout server 60s\n\
                 listen fanline\n bind 127.0.0.1:{port}\n server local {upstream} {how}\n"
            )
        })
    }
}

/// A main file of nginx around the text of its `http`.
pub fn nginx_around(http: &str) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {{ }}\n\
         http {{ access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f;\n\
         uwsgi_temp_path u; scgi_temp_path s;\n{http}}}\n"
    )
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
