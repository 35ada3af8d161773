//! `wheelport cache`: look at, re-hash (and heal), or empty a cache directory.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CommandError, Ended};
use crate::cache::{self, KindStats};
use wheelport_runtime::Size;

/// Arguments of `cache`.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with a cache directory.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Count what is in it
    Stats(Directory),
    /// Hash every file again and remove what is damaged; it is fetched again when somebody asks for it
    Verify(Directory),
    /// Remove everything in it
    Clear(Directory),
}

/// The directory.
#[derive(Debug, Args)]
pub struct Directory {
    /// The cache directory
    #[arg(long, value_name = "DIR", env = "WHEELPORT_CACHE_DIR")]
    pub cache_dir: PathBuf,
}

/// Runs one of the actions; 1 if verifying found damage.
pub fn run(args: &CacheArgs) -> Result<Ended, CommandError> {
    let mut out = std::io::stdout().lock();
    let ended = match &args.action {
        Action::Stats(at) => {
            let stats = cache::stats(&at.cache_dir).map_err(CommandError::start)?;
            print(&mut out, &stats).map_err(CommandError::start)?;
            Ended::Well
        }
        Action::Verify(at) => {
            let verified = cache::verify(&at.cache_dir).map_err(CommandError::start)?;
            for path in &verified.damaged {
                writeln!(out, "damaged, removed: {}", path.display()).map_err(CommandError::start)?;
            }
            writeln!(out, "{} good, {} damaged", verified.good, verified.damaged.len()).map_err(CommandError::start)?;
            if verified.damaged.is_empty() { Ended::Well } else { Ended::Badly }
        }
        Action::Clear(at) => {
            let cleared = cache::clear(&at.cache_dir).map_err(CommandError::start)?;
            writeln!(out, "{cleared} files removed").map_err(CommandError::start)?;
            Ended::Well
        }
    };
    Ok(ended)
}

fn print(out: &mut impl std::io::Write, stats: &[KindStats]) -> std::io::Result<()> {
    writeln!(out, "{:<10} {:>10} {:>16}", "kind", "number", "bytes")?;
    for kind in stats {
        writeln!(out, "{:<10} {:>10} {:>16}", kind.kind, kind.files, kind.bytes)?;
    }
    let total: u64 = stats.iter().map(|kind| kind.bytes).sum();
    writeln!(
        out,
        "{:<10} {:>10} {:>16}  ({})",
        "all",
        stats.iter().map(|kind| kind.files).sum::<u64>(),
        total,
        Size(total)
    )
}
