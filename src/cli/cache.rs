//! `wheelport cache`: inspects, verifies and repairs, or clears a cache directory. `cache accept` is in
//! `accept.rs`, `cache warm` in `warm`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::accept::{self, AcceptArgs};
use super::check;
use super::outcome::{CommandError, Ended};
use super::warm::{self, WarmArgs};
use crate::cache;

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    action: CacheAction,
}

#[derive(Debug, Subcommand)]
enum CacheAction {
    /// Count what is in it
    Stats(DirectoryArgs),
    /// Read all files and records and remove damaged ones, which the next request fetches again
    Verify(DirectoryArgs),
    /// Remove what can be fetched again; what files were when they were first seen, exceptions, and counts stay
    Clear(ClearArgs),
    Accept(AcceptArgs),
    Warm(WarmArgs),
}

#[derive(Debug, Args)]
struct ClearArgs {
    #[command(flatten)]
    at: DirectoryArgs,
    /// Remove the record of first seen files too: nothing tells afterwards that a file has other bytes than before
    #[arg(long)]
    first_seen: bool,
}

#[derive(Debug, Args)]
struct DirectoryArgs {
    /// The cache directory
    #[arg(long, value_name = "DIR", env = "WHEELPORT_CACHE_DIR")]
    cache_dir: PathBuf,
}

/// Runs one of the actions; ends badly if verifying found damage.
pub(super) async fn run(args: &CacheArgs) -> Result<Ended, CommandError> {
    if let CacheAction::Accept(args) = &args.action {
        return accept::run(args).await;
    }
    if let CacheAction::Warm(args) = &args.action {
        return warm::run(args).await;
    }
    in_directory(&args.action).map_err(CommandError::unanswered)
}

fn in_directory(action: &CacheAction) -> io::Result<Ended> {
    let mut out = io::stdout().lock();
    match action {
        CacheAction::Stats(at) => stats(&at.cache_dir, &mut out),
        CacheAction::Verify(at) => verify(&at.cache_dir, &mut out),
        CacheAction::Clear(args) => clear(&args.at.cache_dir, args.first_seen, &mut out),
        CacheAction::Accept(_) | CacheAction::Warm(_) => Ok(Ended::Well),
    }
}

fn stats(dir: &Path, out: &mut impl Write) -> io::Result<Ended> {
    let stats = cache::stats(dir)?;
    writeln!(out, "{:<10} {:>10} {:>16}", "kind", "number", "bytes")?;
    for kind in &stats {
        writeln!(out, "{:<10} {:>10} {:>16}", kind.kind, kind.files, kind.bytes)?;
    }
    let files: u64 = stats.iter().map(|kind| kind.files).sum();
    let bytes: u64 = stats.iter().map(|kind| kind.bytes).sum();
    writeln!(out, "{:<10} {files:>10} {bytes:>16}  ({})", "all", check::about(bytes))?;
    Ok(Ended::Well)
}

fn verify(dir: &Path, out: &mut impl Write) -> io::Result<Ended> {
    let verified = cache::verify(dir)?;
    for path in &verified.damaged {
        writeln!(out, "damaged, removed: {}", path.display())?;
    }
    writeln!(out, "{} good, {} damaged", verified.good, verified.damaged.len())?;
    Ok(if verified.damaged.is_empty() { Ended::Well } else { Ended::Badly })
}

fn clear(dir: &Path, with_first_seen: bool, out: &mut impl Write) -> io::Result<Ended> {
    let cleared = cache::clear(dir, with_first_seen)?;
    writeln!(out, "{cleared} {} removed", if cleared == 1 { "file" } else { "files" })?;
    Ok(Ended::Well)
}
