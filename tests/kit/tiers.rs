//! A server whose clients have tiers: a folder with its configuration and the secret of its issuer, gone with the test.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use super::program::{Program, run};

const ISSUER: &str = r#"
[[auth.issuer]]
issuer = "development"
audience = ["fanline"]
algorithms = ["HS256"]
secret_file = "SECRET"
"#;

pub struct TierFolder(PathBuf);

impl TierFolder {
    /// The tables of a configuration, to which those of the issuer are added.
    pub fn new(name: &str, tables: &str) -> TierFolder {
        let folder = std::env::temp_dir().join(format!("fanline-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let folder = TierFolder(folder);
        let secret = folder.path("secret.txt");
        std::fs::write(&secret, "a secret of a test, long enough for any hash: 0123456789abcdef").expect("a file");
        let text = tables.to_owned() + &ISSUER.replace("SECRET", &secret);
        std::fs::write(folder.path("fanline.toml"), text).expect("a file");
        folder
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    /// The arguments of a server with this configuration, whose operator has the socket `admin`.
    pub fn args(&self) -> [String; 4] {
        ["--config".into(), self.path("fanline.toml"), "--admin-listen".into(), format!("unix:{}", self.path("admin"))]
    }

    pub fn serve(&self, settings: &[(&str, &str)]) -> Program {
        Program::serve(&self.args().each_ref().map(String::as_str), settings)
    }

    /// A token for a tier; `more` are further arguments of `fanline token`.
    pub fn token(&self, subject: &str, tier: &str, more: &[&str]) -> String {
        let secret = self.path("secret.txt");
        let args = ["token", "--secret-file", &secret, "--sub", subject, "--tier", tier];
        let (status, token, log) = run(&[&args, more].concat(), &[]);
        assert!(status.success(), "{log}");
        token.trim().to_owned()
    }

    /// Gives an order of the operator.
    pub fn order(&self, args: &[&str]) {
        let socket = self.path("admin");
        let (status, _, told) = run(&[&["admin", "--socket", &socket], args].concat(), &[]);
        assert!(status.success(), "{args:?}: {told}");
    }

    /// The metrics of the server, from the operator's socket.
    pub fn metrics(&self) -> String {
        let mut socket = UnixStream::connect(self.path("admin")).expect("the operator's socket");
        socket.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").expect("it is read");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("an answer");
        answer
    }
}

impl Drop for TierFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
