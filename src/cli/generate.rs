//! `wheelport generate`: shell completions and man pages, made from the definition of the command line itself, so that
//! they always agree with it.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory as _, Subcommand, ValueEnum as _};
use clap_complete::Shell;

use super::Cli;
use super::outcome::{CommandError, Ended};

#[derive(Debug, Args)]
pub(super) struct GenerateArgs {
    #[command(subcommand)]
    artifact: Artifact,
}

#[derive(Debug, Subcommand)]
enum Artifact {
    /// Completions for one shell to standard output, or for all of them into a directory
    Completions {
        /// The shell
        #[arg(required_unless_present = "dir", conflicts_with = "dir")]
        shell: Option<Shell>,
        /// Write a file for every shell, named as the shell wants it
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Man pages: one for wheelport and one for each command
    Man {
        /// Where to; without it the page of wheelport itself goes to standard output
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

pub(super) fn run(args: &GenerateArgs) -> Result<Ended, CommandError> {
    let made = match &args.artifact {
        Artifact::Completions { dir: Some(dir), .. } => completions_into(dir),
        Artifact::Completions { shell, dir: None } => print(|out| {
            if let Some(shell) = shell {
                clap_complete::generate(*shell, &mut Cli::command(), "wheelport", out);
            }
            Ok(())
        }),
        Artifact::Man { dir: Some(dir) } => man_into(dir),
        Artifact::Man { dir: None } => print(|out| clap_mangen::Man::new(Cli::command()).render(out)),
    };
    made.map(|()| Ended::Well).map_err(CommandError::start)
}

/// Makes the whole text first: the generators panic when they write to a closed pipe.
fn print(make: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut text = Vec::new();
    make(&mut text)?;
    std::io::stdout().lock().write_all(&text)
}

fn completions_into(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut Cli::command(), "wheelport", dir)?;
    }
    Ok(())
}

fn man_into(dir: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_gets_a_file_that_knows_the_commands() {
        let dir = tempfile::tempdir().expect("a directory");
        completions_into(dir.path()).expect("completions");
        for name in ["wheelport.bash", "_wheelport", "wheelport.fish", "_wheelport.ps1", "wheelport.elv"] {
            let text = std::fs::read_to_string(dir.path().join(name)).expect(name);
            for word in ["serve", "cache-max-size", "healthcheck"] {
                assert!(text.contains(word), "{name} does not know {word}");
            }
        }
    }

    #[test]
    fn every_command_that_people_use_gets_a_page() {
        let dir = tempfile::tempdir().expect("a directory");
        man_into(dir.path()).expect("pages");
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            let name = format!("wheelport-{}.1", command.get_name());
            let page = std::fs::read_to_string(dir.path().join(&name)).expect(&name);
            assert!(page.contains(".SH SYNOPSIS"), "{name}");
        }
        let serve = std::fs::read_to_string(dir.path().join("wheelport-serve.1")).expect("the page of serve");
        assert!(serve.contains("WHEELPORT_CACHE_DIR"), "the environment is described");
    }
}
