//! docs/tutorial.md does what it says, on a clean Debian machine, from the package on.

use std::time::{Duration, Instant};

use kit::document::read;

use crate::debian::package;
use crate::machine::{Machine, said};

/// More than the alert of the tutorial takes.
const PATIENCE: Duration = Duration::from_secs(300);

/// A block of commands, and what the tutorial shows of their output.
struct Step {
    script: String,
    shown: Option<String>,
}

fn steps(document: &str) -> Vec<Step> {
    let (mut steps, mut open) = (Vec::<Step>::new(), None);
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some((language, text))) => {
                let text = std::mem::take(text);
                match &**language {
                    "sh" => steps.push(Step { script: text, shown: None }),
                    "text" => steps.last_mut().expect("what is shown follows commands").shown = Some(text),
                    _ => {}
                }
                open = None;
            }
            (None, Some((_, text))) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    steps
}

/// Whether a line of the output is that which is shown; `…` stands for anything.
fn shows(output: &str, shown: &str) -> bool {
    let shown = shown.trim_end();
    let parts: Vec<&str> = shown.split('…').collect();
    output.lines().any(|line| {
        let mut rest = line;
        for (place, part) in parts.iter().enumerate() {
            let Some(found) = rest.find(part).filter(|found| place > 0 || *found == 0) else { return false };
            rest = &rest[found + part.len()..];
        }
        rest.is_empty() || shown.ends_with('…')
    })
}

#[test]
#[ignore = "takes three minutes; `cargo test --test deploy tutorial -- --ignored`"]
fn the_tutorial_leads_from_the_package_to_prices_behind_tls_and_an_alert() {
    let Some(package) = package("tutorial", "1", "-Znone") else { return };
    let Some(machine) = Machine::boot("tutorial", package.parent().expect("it lies in a folder")) else { return };
    machine.sh("cp /packages/fanline_*.deb .");
    let steps = steps(&read("docs/tutorial.md"));
    assert!(steps.iter().filter(|step| step.shown.is_some()).count() >= 8, "the tutorial shows what to expect");
    for Step { script, shown } in steps {
        let start = Instant::now();
        let Some(shown) = shown else {
            machine.sh(&script);
            continue;
        };
        // Looking changes nothing, so it is repeated until there is what the tutorial shows.
        loop {
            let output = machine.try_sh(&script);
            if output.status.success() && shows(&said(&output), &shown) {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "{script}\nexpected {shown}\nfound {output:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    assert!(!machine.try_sh("command -v fanline").status.success(), "the last step removes it");
}
