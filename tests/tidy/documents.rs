//! Documents that cannot go stale unnoticed: links lead somewhere, commands can be typed, dependencies are explained.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::source::{Findings, files, line_of, read, sources, top};

/// A line of a document and whether it stands in a fence, and in one of which language.
struct Line<'a> {
    number: usize,
    text: &'a str,
    fence: Option<&'a str>,
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let mut fence: Option<&str> = None;
    let mut lines = Vec::new();
    for (number, text) in text.lines().enumerate() {
        if let Some(language) = text.trim_start().strip_prefix("```") {
            fence = if fence.is_some() { None } else { Some(language.trim()) };
            continue;
        }
        lines.push(Line { number: number + 1, text, fence });
    }
    lines
}

/// A line without its `code spans`.
fn without_spans(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("``")
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut findings = Findings::default();
    for path in files(".md") {
        let text = read(&path);
        for line in lines(&text).iter().filter(|line| line.fence.is_none()) {
            let prose = without_spans(line.text);
            let targets = prose.match_indices("](").filter_map(|(at, _)| prose[at + 2..].split([')', ' ']).next());
            for target in targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")) {
                if !leads_somewhere(&path, target) {
                    findings.add(&path, line.number, target);
                }
            }
        }
    }
    findings.none("links lead to files and headings that exist");
}

fn leads_somewhere(document: &str, target: &str) -> bool {
    let (file, heading) = target.split_once('#').unwrap_or((target, ""));
    let place = match file {
        "" => PathBuf::from(document),
        file => plain(&Path::new(document).parent().unwrap_or(Path::new("")).join(file)),
    };
    if !top().join(&place).exists() {
        return false;
    }
    let Some(place) = place.to_str().filter(|place| place.ends_with(".md") && !heading.is_empty()) else { return true };
    let text = read(place);
    let headings = lines(&text).into_iter().filter(|line| line.fence.is_none() && line.text.starts_with('#'));
    headings.map(|line| slug(line.text)).any(|slug| slug == heading)
}

/// `docs/../README.md` is `README.md`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// The anchor that GitHub and its like give to a heading.
fn slug(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_command_shown_can_be_typed() {
    let mut findings = Findings::default();
    for path in files(".md") {
        let text = read(&path);
        for (number, command) in shown(&text) {
            if let Err(why) = parses(&command) {
                findings.add(&path, number, format!("`{command}`: {why}"));
            }
        }
    }
    findings.none("commands in documents exist, and so do their options");
}

#[test]
fn every_command_a_message_advises_can_be_typed() {
    let mut findings = Findings::default();
    for source in sources("src/") {
        for (at, _) in source.text.match_indices("`warmspare ") {
            let command = source.text[at + 1..].split('`').next().unwrap_or_default();
            // What is put in at run time is a name or an option's value.
            let command = command.replace(['{', '}'], "");
            if let Err(why) = parses(&command) {
                findings.add(&source.path, line_of(&source.text, at), format!("`{command}`: {why}"));
            }
        }
    }
    findings.none("nobody is told to run a command that does not exist");
}

/// The warmspare commands of a document's shell fences, continued lines joined.
fn shown(text: &str) -> Vec<(usize, String)> {
    let shells = ["sh", "bash", "shell", "console"];
    let mut commands = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for line in lines(text).iter().filter(|line| line.fence.is_some_and(|fence| shells.contains(&fence))) {
        let (number, sofar) = open.take().unwrap_or((line.number, String::new()));
        match line.text.trim_end().strip_suffix('\\') {
            Some(more) => open = Some((number, sofar + more + " ")),
            None => {
                let whole = sofar + line.text;
                commands.extend(simple_commands(&whole).into_iter().map(|command| (number, command)));
            }
        }
    }
    commands
}

/// The parts of a shell line that call warmspare, after prompts, `sudo` and variables.
fn simple_commands(line: &str) -> Vec<String> {
    let line = line.split(" #").next().unwrap_or_default();
    let parts = line.split(['|', ';', '&', '>', '<', '(', ')']);
    let calls = |part: &str| {
        let is_before = |word: &&str| ["$", "#", "sudo", "time"].contains(word) || word.contains('=');
        let words: Vec<&str> = part.split_whitespace().skip_while(is_before).collect();
        let program = words.first()?.rsplit('/').next()?;
        (program == "warmspare").then(|| words.join(" "))
    };
    parts.filter_map(calls).collect()
}

/// Walks a command along what `--help` says of it.
fn parses(command: &str) -> Result<(), String> {
    let mut walked: Vec<&str> = Vec::new();
    let mut words = command.split_whitespace().skip(1);
    let mut help = help(&walked);
    while let Some(word) = words.next() {
        if ["|", "…", "...", "\\"].contains(&word) {
            break;
        } else if let Some(option) = word.strip_prefix('-') {
            let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
            let takes = help.options.get(name).ok_or_else(|| format!("no option {name}"))?;
            if *takes && value.is_none() && words.next().is_none() {
                return Err(format!("-{option} lacks its value"));
            }
        } else if help.commands.iter().any(|command| command == word) {
            walked.push(word);
            help = self::help(&walked);
        } else if !help.takes_values {
            return Err(format!("no command `{word}`"));
        }
    }
    Ok(())
}

/// What `--help` says.
#[derive(Clone, Default)]
struct Help {
    commands: Vec<String>,
    /// Name, with its dashes, and whether a value follows.
    options: BTreeMap<String, bool>,
    takes_values: bool,
}

/// The help of a command; each is asked for once.
fn help(command: &[&str]) -> Help {
    static KNOWN: Mutex<BTreeMap<String, Help>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.entry(command.join(" ")).or_insert_with(|| ask(command)).clone()
}

fn ask(command: &[&str]) -> Help {
    let output = Command::new(env!("CARGO_BIN_EXE_warmspare")).args(command).arg("--help").output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{command:?} --help: {}", String::from_utf8_lossy(&output.stderr));
    let mut help = Help::default();
    let mut section = "";
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(usage) = line.strip_prefix("Usage: ") {
            let values = usage.replace("[OPTIONS]", "").replace("[COMMAND]", "").replace("<COMMAND>", "");
            help.takes_values = values.contains(['<', '[']);
        } else if line.ends_with(':') && !line.starts_with(' ') {
            section = if line == "Commands:" { "commands" } else { "" };
        } else if section == "commands" {
            help.commands.extend(line.split_whitespace().next().map(str::to_owned).filter(|_| line.starts_with("  ")));
        } else if line.trim_start().starts_with('-') {
            options(line, &mut help.options);
        }
    }
    help
}

/// Reads `  -o, --option <VALUE>  what it does`.
fn options(line: &str, options: &mut BTreeMap<String, bool>) {
    let names = line.trim_start().split("  ").next().unwrap_or_default();
    let takes_value = names.contains(['<', '[']);
    for name in names.split([' ', ',']).filter(|word| word.starts_with('-')) {
        options.insert(name.to_owned(), takes_value);
    }
}

#[test]
fn every_direct_dependency_is_explained() {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("Cargo.toml is TOML");
    let architecture = read("docs/ARCHITECTURE.md");
    let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let words: Vec<&str> = architecture.split(|c| !is_word(c)).collect();
    let mut findings = Findings::default();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let names = manifest.get(section).and_then(toml::Value::as_table).into_iter().flat_map(|table| table.keys());
        for name in names.filter(|name| !words.contains(&name.as_str())) {
            findings.add("docs/ARCHITECTURE.md", 1, format!("{name} of [{section}] is not named"));
        }
    }
    findings.none("ARCHITECTURE says of each dependency what it is for");
}

#[test]
fn every_make_target_shown_exists() {
    let makefile = read("Makefile");
    let targets: Vec<&str> =
        makefile.lines().filter_map(|line| line.split_once(':')).map(|(target, _)| target).collect();
    let mut findings = Findings::default();
    for path in files(".md") {
        let text = read(&path);
        let shown = text.match_indices("make ").filter(|(at, _)| text[..*at].ends_with(['`', '\n', ' ']));
        for (at, _) in shown {
            let in_code =
                text[..at].ends_with('`') || lines(&text).iter().any(|line| is_fenced(line, line_of(&text, at)));
            let target: String = text[at + 5..].chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
            if in_code && !target.is_empty() && !targets.contains(&target.as_str()) {
                findings.add(&path, line_of(&text, at), format!("make {target}"));
            }
        }
    }
    findings.none("`make` knows every target that a document names");
}

/// Whether it is that line, in a shell fence, and a call of make.
fn is_fenced(line: &Line<'_>, number: usize) -> bool {
    let call = line.text.trim_start().trim_start_matches("$ ");
    line.number == number
        && matches!(line.fence, Some("sh" | "bash" | "shell" | "console"))
        && call.starts_with("make ")
}

#[test]
fn commands_are_found_and_read_as_a_shell_does() {
    let text = "Text `warmspare no`.\n```sh\n$ sudo WARMSPARE_SITE=fra warmspare points --json | jq .\ncd x && ./warmspare restore \\\n  --only a # why\n```\n";
    let commands = shown(text);
    assert_eq!(commands[0], (3, "warmspare points --json".to_owned()));
    assert_eq!(commands[1], (4, "./warmspare restore --only a".to_owned()));
    for right in ["warmspare", "warmspare --config x points show 0-1", "warmspare restore --only=a --dry-run"] {
        assert_eq!(parses(right), Ok(()), "{right}");
    }
    for wrong in ["warmspare dance", "warmspare points --nonesuch", "warmspare restore 0-1", "warmspare restore --only"]
    {
        assert!(parses(wrong).is_err(), "{wrong}");
    }
    assert_eq!(slug("## What it is, what it's *not*"), "what-it-is-what-its-not");
}
