//! Planted faults: the tests must notice each mistake of a list (`faults.rs`), or they do not hold what they promise.
//!
//! `make mutants` works on a copy of the tree below `target/mutants`: it plants one fault, builds the tests that must
//! notice it, runs them, and takes the fault out again. A fault that does not fit the code any more, or does not
//! compile, ends the run and is named: the list follows the code. The copy is built with the dependencies that
//! `target` has already, and fanline itself without optimisation, so a fault costs about as much as a change of one file.

mod faults;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use faults::{Fault, KINDS};

/// What tests without a fault take at most, many times over: a fault may also make them wait for ever.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of a folder, what is no part of the sources.
const SKIPPED: &[&str] = &["target", ".git", "node_modules", "docs", "corpus", "artifacts"];

#[test]
fn every_planted_fault_fits_the_code() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let faults = KINDS.iter().flat_map(|kind| kind.faults.iter().map(move |fault| (kind.name, fault)));
    let unfit: Vec<String> = faults.filter_map(|(kind, fault)| planted(root, kind, fault).err()).collect();
    assert!(unfit.is_empty(), "{}", unfit.join("\n"));
}

#[test]
#[ignore = "takes half an hour; `make mutants`"]
fn every_planted_fault_is_noticed() {
    let all: Vec<(&str, &Fault)> =
        KINDS.iter().flat_map(|kind| kind.faults.iter().map(move |fault| (kind.name, fault))).collect();
    run(&all);
}

/// One fault of each kind with quick tests: enough to see that faults are still planted and still noticed.
#[test]
#[ignore = "takes three minutes; `make mutants-short`"]
fn a_planted_fault_of_several_kinds_is_noticed() {
    let short = ["boarding", "arbitration", "admission", "demand"];
    let chosen = KINDS.iter().filter(|kind| short.contains(&kind.name));
    run(&chosen.map(|kind| (kind.name, &kind.faults[0])).collect::<Vec<_>>());
}

/// Plants each fault in turn, prints what became of it, and fails if one was not noticed. `FANLINE_MUTANTS` chooses
/// those of which kind or file have a text.
fn run(all: &[(&str, &Fault)]) {
    let wanted = std::env::var("FANLINE_MUTANTS").unwrap_or_default();
    let is_wanted = |(kind, fault): &&(&str, &Fault)| kind.contains(&wanted) || fault.file.contains(&wanted);
    let chosen: Vec<&(&str, &Fault)> = all.iter().filter(is_wanted).collect();
    let mut copy = Copy::make();
    for (kind, fault) in &chosen {
        planted(&copy.tree, kind, fault).unwrap_or_else(|unfit| panic!("{unfit}"));
    }
    for (_, fault) in &chosen {
        copy.prove_sound(fault);
    }
    let mut failed = Vec::new();
    for (kind, fault) in &chosen {
        let began = Instant::now();
        let word = match copy.notices(kind, fault) {
            Ok(true) => "killed",
            Ok(false) => "SURVIVED",
            Err(error) => {
                println!("{error}");
                "DOES NOT COMPILE"
            }
        };
        let line = format!("{word:8} {:3} s  {}", began.elapsed().as_secs(), shown(kind, fault));
        println!("{line}");
        if word != "killed" {
            failed.push(line);
        }
    }
    println!("{} of {} planted faults were noticed", chosen.len() - failed.len(), chosen.len());
    assert!(failed.is_empty(), "not noticed:\n{}", failed.join("\n"));
}

/// The text of the file with the fault in it; an error if the fault does not fit.
fn planted(root: &Path, kind: &str, fault: &Fault) -> Result<String, String> {
    let text = fs::read_to_string(root.join(fault.file)).map_err(|error| format!("{}: {error}", shown(kind, fault)))?;
    match text.matches(fault.old).count() {
        1 => Ok(text.replacen(fault.old, fault.new, 1)),
        count => Err(format!("{}: expected the old text once, found it {count} times", shown(kind, fault))),
    }
}

fn shown(kind: &str, fault: &Fault) -> String {
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{kind}: {}: `{}` -> `{}`", fault.file, line(fault.old), line(fault.new))
}

/// A copy of the tree to plant faults in.
struct Copy {
    tree: PathBuf,
    /// Held until the end: of two runs, one would take out the faults of the other.
    _lock: fs::File,
    shared: OsString,
    target: PathBuf,
    /// The tests, by what they are built by and their names, that are known to pass without a fault.
    sound: HashSet<(&'static str, &'static str)>,
}

impl Copy {
    fn make() -> Copy {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), |target| root.join(target));
        let tree = target.join("mutants/tree");
        fs::create_dir_all(&tree).expect("a folder below target");
        let lock = fs::File::create(target.join("mutants/lock")).expect("a file below target");
        lock.try_lock().expect("no other run on this copy");
        synchronise(root, &tree);
        let shared = std::env::var_os("FANLINE_SHARED").unwrap_or_else(|| root.join("../shared").into());
        Copy { tree, _lock: lock, shared, target, sound: HashSet::new() }
    }

    /// Panics unless the tests pass without the fault.
    fn prove_sound(&mut self, fault: &Fault) {
        if self.sound.insert(fault.tests) {
            let tests = self.build(fault).unwrap_or_else(|error| panic!("the tree does not compile:\n{error}"));
            assert!(self.passes(&tests, fault), "{:?} fail without a fault", fault.tests);
        }
    }

    /// Whether the tests of a fault fail with it, or what the compiler says of it.
    fn notices(&self, kind: &str, fault: &Fault) -> Result<bool, String> {
        let path = self.tree.join(fault.file);
        let sound = fs::read_to_string(&path).expect("a file of the copy");
        let planted = planted(&self.tree, kind, fault).expect("checked before");
        fs::write(&path, planted).expect("a file of the copy");
        let noticed = self.build(fault).map(|tests| !self.passes(&tests, fault));
        fs::write(&path, sound).expect("a file of the copy");
        noticed
    }

    /// Builds the tests of a fault: their programs, or what the compiler says.
    fn build(&self, fault: &Fault) -> Result<Vec<PathBuf>, String> {
        // No crate of the workspace as `make test` builds it: Cargo would take what is built from the copy for what is not.
        let quick = ["--config=profile.dev.debug=0", "--config=profile.dev.package.fanline.opt-level=0"];
        let mut cargo = Command::new(env!("CARGO"));
        // What Cargo tells a test of its package is what build scripts look at: with it dependencies are built anew, while
        // other tests may need them.
        let of_this_test =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") || name == "OUT_DIR";
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(of_this_test)) {
            cargo.env_remove(name);
        }
        let Output { status, stdout, stderr } = cargo
            .args(["test", "--locked", "--no-run", "--message-format=json-render-diagnostics"])
            .args(fault.tests.0.split(' '))
            .args(quick)
            .env("CARGO_TARGET_DIR", &self.target)
            // What makes the next fault cheap, whatever holds outside.
            .env("CARGO_INCREMENTAL", "1")
            .current_dir(&self.tree)
            .output()
            .expect("cargo can be started");
        if !status.success() {
            return Err(String::from_utf8_lossy(&stderr).into_owned());
        }
        let messages = stdout.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let tests = messages.filter(|message: &serde_json::Value| message["profile"]["test"] == true);
        Ok(tests.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).collect())
    }

    /// Whether all tests pass, and there are any.
    fn passes(&self, programs: &[PathBuf], fault: &Fault) -> bool {
        assert!(!programs.is_empty(), "{:?} are no tests", fault.tests);
        programs.iter().all(|program| {
            // A fault may also make a test ask for memory without end.
            let mut test = Command::new("sh")
                .args(["-c", "ulimit -v 8000000 2>/dev/null; exec \"$@\"", "sh"])
                .arg(program)
                .args(["--quiet", fault.tests.1])
                // Enough for each planted fault, in a fifth of the time.
                .env("FANLINE_SIMULATION_SEEDS", "60")
                // Beside the project, not beside the copy.
                .env("FANLINE_SHARED", &self.shared)
                .current_dir(&self.tree)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("a test can be started");
            let deadline = Instant::now() + PATIENCE;
            loop {
                if let Some(status) = test.try_wait().expect("a test that was started") {
                    return status.success();
                }
                if Instant::now() > deadline {
                    println!("it did not end within {PATIENCE:?}:");
                    test.kill().expect("a test that was started");
                    test.wait().expect("a test that was started");
                    return false;
                }
                thread::sleep(Duration::from_millis(20));
            }
        })
    }
}

/// Makes the copy like the original. What is alike is left alone, so that it is not compiled again.
fn synchronise(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder below target");
    let names = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).expect("a readable folder");
        entries.map(|entry| PathBuf::from(entry.expect("a readable entry").file_name())).collect()
    };
    for name in names(to) {
        let (original, copy) = (from.join(&name), to.join(&name));
        if !original.exists() || original.is_dir() != copy.is_dir() {
            let removed = if copy.is_dir() { fs::remove_dir_all(&copy) } else { fs::remove_file(&copy) };
            removed.expect("an entry below target");
        }
    }
    for name in names(from).iter().filter(|name| !SKIPPED.iter().any(|skipped| Path::new(skipped) == **name)) {
        let (original, copy) = (from.join(name), to.join(name));
        if original.is_dir() {
            synchronise(&original, &copy);
        } else {
            let bytes = fs::read(&original).expect("a readable file");
            if fs::read(&copy).ok().as_deref() != Some(&bytes) {
                fs::write(&copy, bytes).expect("a file below target");
            }
        }
    }
}
