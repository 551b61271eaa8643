//! `fanline certificate`: a certificate for development, signed by its own key.
//!
//! It is good for this machine's names and a month. Programs trust it if they are given its file; browsers ask once.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, date_time_ymd};

/// The files in the folder.
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Until the end of the day before it.
const VALID_FOR: Duration = Duration::from_secs(31 * 24 * 3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("expected no file `{}`, found one; choose another folder with --out, or replace it with --force", .path.display())]
    Exists { path: PathBuf },
    #[error("expected to write `{}`, found: {error}; check the folder and its permissions", .path.display())]
    Unwritable { path: PathBuf, error: io::Error },
    #[error("expected a name such as `dev.example.com` or an IP address, found one of {names}: {error}")]
    Names { names: String, error: rcgen::Error },
}

/// What was written.
pub struct WrittenCertificate {
    certificate: PathBuf,
    key: PathBuf,
    names: Vec<String>,
    /// The day, as in ISO 8601.
    ends: String,
}

/// Writes a certificate and its key into `folder`, for this machine's names and `names`.
pub fn write(folder: &Path, names: &[String], force: bool) -> Result<WrittenCertificate, CertificateError> {
    let (certificate, key) = (folder.join(CERTIFICATE), folder.join(KEY));
    if let Some(path) = [&certificate, &key].into_iter().find(|path| !force && path.exists()) {
        return Err(CertificateError::Exists { path: path.clone() });
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut all: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
    for name in std::iter::once(&host).filter(|host| !host.is_empty()).chain(names) {
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    let refuse = |error| CertificateError::Names { names: all.join(", "), error };
    let mut params = CertificateParams::new(all.clone()).map_err(refuse)?;
    let now = SystemTime::now();
    // A day earlier, for clocks that are behind.
    let (begins, ends) = (day(now - DAY), day(now + VALID_FOR));
    params.not_before = date_time_ymd(begins.0, begins.1, begins.2);
    params.not_after = date_time_ymd(ends.0, ends.1, ends.2);
    params.distinguished_name.push(DnType::CommonName, "fanline, for development");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let pair = KeyPair::generate().map_err(refuse)?;
    let signed = params.self_signed(&pair).map_err(refuse)?;

    let unwritable = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::Unwritable { path, error }
    };
    std::fs::create_dir_all(folder).map_err(unwritable(folder))?;
    put(&key, 0o600, &pair.serialize_pem()).map_err(unwritable(&key))?;
    put(&certificate, 0o644, &signed.pem()).map_err(unwritable(&certificate))?;
    let ends = format!("{:04}-{:02}-{:02}", ends.0, ends.1, ends.2);
    Ok(WrittenCertificate { certificate, key, names: all, ends })
}

impl WrittenCertificate {
    /// As `tls.certificates` takes it.
    pub fn pair(&self) -> String {
        format!("{}:{}", self.certificate.display(), self.key.display())
    }
}

/// Replaces the file, so that a key is never in one that others may read.
fn put(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())
}

/// Year, month and day in UTC.
fn day(time: SystemTime) -> (i32, u8, u8) {
    let text = humantime::format_rfc3339_seconds(time).to_string();
    let digits = |range: std::ops::Range<usize>| text.get(range).expect("RFC 3339 has digits there");
    let small = |range| digits(range).parse().expect("two digits");
    (digits(0..4).parse().expect("four digits"), small(5..7), small(8..10))
}

/// For people: what it is, and how to trust it.
impl fmt::Display for WrittenCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WrittenCertificate { certificate, key, names, ends } = self;
        let file = certificate.display();
        writeln!(f, "certificate: {file}\nkey: {}", key.display())?;
        writeln!(f, "for {}, before {ends}", names.join(", "))?;
        writeln!(f, "It is for development. To trust it:")?;
        writeln!(f, "  curl --cacert {file} …")?;
        writeln!(f, "  NODE_EXTRA_CA_CERTS={file} node …")?;
        writeln!(f, "  SSL_CERT_FILE={file} python3 …, fanline …")?;
        write!(f, "  a browser asks once, at https://localhost:PORT/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_read_from_the_clock() {
        for (seconds, expected) in [(0, (1970, 1, 1)), (951_782_400, (2000, 2, 29)), (1_798_761_599, (2026, 12, 31))] {
            assert_eq!(day(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
