//! The project's Markdown: which documents there are, their code blocks, headings and tables.

use std::path::{Path, PathBuf};

use super::project;

/// Every document, by its path from the project's root: those at the root and those below docs/.
pub fn all() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![project("docs")];
    let root = project("");
    let mut take = |path: &Path| {
        if path.extension().is_some_and(|extension| extension == "md") {
            let path = path.strip_prefix(&root).expect("below the root");
            found.push(path.to_str().expect("UTF-8").to_owned());
        }
    };
    entries(&root).iter().filter(|path| path.is_file()).for_each(|path| take(path));
    while let Some(folder) = folders.pop() {
        for path in entries(&folder) {
            if path.is_dir() { folders.push(path) } else { take(&path) }
        }
    }
    assert!(found.len() > 15, "the documents are there: {found:?}");
    found.sort();
    found
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("a readable entry").path()).collect()
}

pub fn read(name: &str) -> String {
    let path = project(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The code blocks of a language, in their order.
pub fn blocks(document: &str, language: &str) -> Vec<String> {
    blocks_with_headings(document, language).into_iter().map(|(_, block)| block).collect()
}

/// The same, each with the heading that it stands under.
pub fn blocks_with_headings(document: &str, language: &str) -> Vec<(String, String)> {
    let (mut found, mut heading, mut open) = (Vec::new(), String::new(), None::<(String, String)>);
    for line in document.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some((spoken, block))) => {
                if spoken == language {
                    found.push((heading.clone(), std::mem::take(block)));
                }
                open = None;
            }
            (Some(spoken), None) => open = Some((spoken.to_owned(), String::new())),
            (None, Some((_, block))) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) if line.starts_with('#') => line.trim_start_matches(['#', ' ']).clone_into(&mut heading),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a code block has no end");
    found
}

/// Numbered lines outside code blocks.
pub fn prose(document: &str) -> Vec<(usize, &str)> {
    let mut in_code = false;
    let lines = (1..).zip(document.lines()).filter(|(_, line)| {
        let is_fence = line.starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    });
    lines.collect()
}

/// What stands in backticks outside code blocks.
pub fn quoted(document: &str) -> Vec<&str> {
    prose(document).into_iter().flat_map(|(_, line)| line.split('`').skip(1).step_by(2)).collect()
}

/// The anchors that headings make.
pub fn anchors(document: &str) -> Vec<String> {
    let headings = prose(document).into_iter().filter(|(_, line)| line.starts_with('#'));
    let anchor = |line: &str| -> String {
        let text = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
        text.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
    };
    headings.map(|(_, line)| anchor(line)).collect()
}

/// First cells of the rows of all tables whose header begins with this cell.
pub fn first_cells(document: &str, header: &str) -> Vec<String> {
    let mut cells = Vec::new();
    let mut inside = false;
    for (_, line) in prose(document) {
        let Some(row) = line.strip_prefix('|') else {
            inside = false;
            continue;
        };
        let first = row.split('|').next().unwrap_or_default().trim();
        if first == header {
            inside = true;
        } else if inside && !first.starts_with("---") {
            cells.push(first.to_owned());
        }
    }
    assert!(!cells.is_empty(), "expected a table with `{header}`");
    cells
}
