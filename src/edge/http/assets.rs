//! The page and its files, embedded in the binary, and prepared once at the start: hashed, compressed, typed.
//!
//! The version is a hash over all files. The page refers to its files below `/static/VERSION/`, so that a CDN may keep
//! them for ever, and a new page never loads old files.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// The file that `/` shows.
const INDEX: &str = "index.html";

/// Placeholder in front of the page's file names. Its replacement is relative, so that the page works at any path of a
/// proxy.
const PLACEHOLDER: &str = "static/@version@/";

/// Hexadecimal digits of a version: 64 bits, more than enough to tell deployments apart.
const VERSION_DIGITS: usize = 16;

/// 1 KiB: smaller texts fit into one packet together with their headers, compressed or not.
const GZIP_BYTES_MIN: usize = 1024;

#[derive(rust_embed::Embed)]
#[folder = "static/"]
struct Embedded;

/// All files of one build.
pub(in crate::edge) struct Assets {
    version: String,
    index: Option<Asset>,
    files: HashMap<String, Asset>,
}

/// One file, ready to be sent.
pub(in crate::edge) struct Asset {
    pub content_type: &'static str,
    pub plain: Representation,
    /// Only for text, and only if it is smaller.
    pub gzip: Option<Representation>,
}

/// The bytes of a body with their own strong ETag (RFC 9110 section 8.8.3.3 demands one per encoding).
pub(in crate::edge) struct Representation {
    pub body: Bytes,
    pub etag: String,
}

/// How long a path below `/static/` stays valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::edge) enum Freshness {
    /// The path names the current version.
    Immutable,
    /// The path names no version.
    Current,
    /// The path names another version: another server of a rolling deployment wrote the page.
    OtherVersion,
}

impl Assets {
    /// The files embedded in this binary (debug builds read them from the source tree).
    pub(crate) fn load() -> Assets {
        let files = Embedded::iter().filter_map(|path| {
            let data = Embedded::get(&path)?.data.into_owned();
            Some((path.into_owned(), data))
        });
        Assets::new(files.collect())
    }

    /// Files by path; sorted, so that the version does not depend on the order of discovery.
    pub(crate) fn new(mut files: BTreeMap<String, Vec<u8>>) -> Assets {
        let mut hash = Sha256::new();
        for (path, data) in &files {
            hash.update((path.len() as u64).to_be_bytes());
            hash.update(path);
            hash.update((data.len() as u64).to_be_bytes());
            hash.update(data);
        }
        let version = hex(&hash.finalize())[..VERSION_DIGITS].to_string();
        let index = files.remove(INDEX).map(|page| {
            let files = format!("static/{version}/");
            let page = String::from_utf8_lossy(&page);
            let page = page.replace(&format!("/{PLACEHOLDER}"), &files).replace(PLACEHOLDER, &files);
            Asset::new(INDEX, page.into_bytes())
        });
        let files = files.into_iter().map(|(path, data)| {
            let asset = Asset::new(&path, data);
            (path, asset)
        });
        Assets { index, files: files.collect(), version }
    }

    pub(crate) fn index(&self) -> Option<&Asset> {
        self.index.as_ref()
    }

    /// Finds the file at `/static/{path}`. The path is a key of a table and never touches a file system, so there is nothing
    /// to traverse.
    pub(crate) fn find(&self, path: &str) -> Option<(&Asset, Freshness)> {
        if let Some(asset) = self.files.get(path) {
            return Some((asset, Freshness::Current));
        }
        let (version, rest) = path.split_once('/')?;
        let asset = self.files.get(rest)?;
        if version == self.version {
            Some((asset, Freshness::Immutable))
        } else if is_version(version) {
            Some((asset, Freshness::OtherVersion))
        } else {
            None
        }
    }
}

impl Asset {
    fn new(path: &str, data: Vec<u8>) -> Asset {
        let content_type = content_type(path);
        let digest = hex(&Sha256::digest(&data));
        let gzip = gzip(content_type, &data)
            .map(|body| Representation { body: body.into(), etag: format!("\"{digest}-gzip\"") });
        Asset { content_type, plain: Representation { body: data.into(), etag: format!("\"{digest}\"") }, gzip }
    }
}

fn gzip(content_type: &str, data: &[u8]) -> Option<Vec<u8>> {
    let text = content_type.starts_with("text/") || content_type.ends_with("json") || content_type.contains("svg");
    if !text || data.len() <= GZIP_BYTES_MIN {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(data).expect("writing into memory does not fail");
    let body = encoder.finish().expect("writing into memory does not fail");
    (body.len() < data.len()).then_some(body)
}

fn content_type(path: &str) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("ico") => "image/x-icon",
        Some("webp") => "image/webp",
        Some("woff2") => "font/woff2",
        // Licences have no extension.
        Some("txt" | "md" | "ts") | None => "text/plain; charset=utf-8",
        Some(_) => "application/octet-stream",
    }
}

fn is_version(text: &str) -> bool {
    text.len() == VERSION_DIGITS && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assets(script: &str) -> Assets {
        let page = "<script src=\"/static/@version@/app.js\"><link href=\"static/@version@/app.css\">";
        let icon = "i".repeat(2000);
        Assets::new(
            [("index.html", page), ("app.js", script), ("vendor/LICENSE", "MIT"), ("icon.png", icon.as_str())]
                .map(|(path, text)| (path.to_string(), text.as_bytes().to_vec()))
                .into(),
        )
    }

    #[test]
    fn the_page_names_a_version_that_changes_with_any_file() {
        let (old, new) = (assets("let a = 1"), assets("let a = 2"));
        assert_eq!(old.version, assets("let a = 1").version);
        assert_ne!(old.version, new.version);
        assert!(is_version(&old.version));
        let page = &old.index().expect("there is a page").plain.body;
        let version = &old.version;
        let expected = format!("<script src=\"static/{version}/app.js\"><link href=\"static/{version}/app.css\">");
        assert_eq!(page, &expected, "relative, with and without a slash in front");
        assert_ne!(old.index().map(|i| &i.plain.etag), new.index().map(|i| &i.plain.etag));
    }

    #[test]
    fn a_path_is_found_as_written_or_below_a_version_and_nowhere_else() {
        let assets = assets("let a = 1");
        let current = assets.version.clone();
        for (path, expected) in [
            ("app.js".to_string(), Some(Freshness::Current)),
            ("vendor/LICENSE".to_string(), Some(Freshness::Current)),
            (format!("{current}/app.js"), Some(Freshness::Immutable)),
            (format!("{current}/vendor/LICENSE"), Some(Freshness::Immutable)),
            ("0123456789abcdef/app.js".to_string(), Some(Freshness::OtherVersion)),
            ("0123456789ABCDEF/app.js".to_string(), None),
            ("latest/app.js".to_string(), None),
            ("index.html".to_string(), None),
            ("".to_string(), None),
            ("../Cargo.toml".to_string(), None),
            ("vendor/../app.js".to_string(), None),
            ("%2e%2e/Cargo.toml".to_string(), None),
            ("/app.js".to_string(), None),
        ] {
            assert_eq!(assets.find(&path).map(|(_, freshness)| freshness), expected, "{path}");
        }
    }

    #[test]
    fn only_texts_worth_it_are_compressed_and_have_an_etag_of_their_own() {
        let assets = assets(&"let a = 1;\n".repeat(200));
        let script = &assets.files["app.js"];
        let gzip = script.gzip.as_ref().expect("2 KiB of text");
        assert!(gzip.body.len() < script.plain.body.len());
        assert_ne!(gzip.etag, script.plain.etag);
        assert!(assets.files["vendor/LICENSE"].gzip.is_none(), "too small");
        assert!(assets.files["icon.png"].gzip.is_none(), "no text");
    }
}
