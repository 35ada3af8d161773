//! File bytes on their way to a socket without passing through this process's memory.
//!
//! A body that goes through the HTTP library can only carry bytes. So it carries stand-ins: slices of one region of
//! blank memory that nobody ever reads, each announced beforehand on the connection's [`Lane`] with the part of a file
//! it stands for. The connection's writer recognises a stand-in by where it lies and lets the kernel send the part
//! (`sendfile(2)`). Everything else, such as heads and short bodies, is written as always.
//!
//! Whatever does not fit together breaks the connection: a stand-in that was not announced, or one at another position
//! than the part has come to. Should the library ever copy bodies together instead of handing them on, blank bytes
//! would be written in the place of an announced part; more plain bytes than a head has are refused for that reason
//! while a part waits, and no part is shorter than that.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use bytes::Bytes;

/// Whether this system can do it.
pub const OFFERED: bool = cfg!(target_os = "linux");
/// The longest part that one stand-in stands for, in bytes.
pub const LONGEST: usize = 1 << 20;
/// Shorter parts are not worth it, and are to be sent as bytes.
pub const SHORTEST: usize = 128 << 10;

/// The memory that stand-ins lie in. Never written, never read, so the system never provides any for it.
static BLANK: LazyLock<&'static [u8]> = LazyLock::new(|| Box::leak(vec![0; LONGEST].into_boxed_slice()));

/// The parts that were announced on one connection and are not sent yet. Clones are the same lane.
#[derive(Clone, Default)]
pub struct Lane {
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    parts: VecDeque<Part>,
    /// Plain bytes written since the first part in line was announced.
    plain: usize,
}

struct Part {
    file: Arc<File>,
    offset: u64,
    length: usize,
    sent: usize,
}

impl Lane {
    /// Announces a part of a file, [`SHORTEST`] to [`LONGEST`] bytes, and gives what stands for it in the body.
    pub fn stand_in(&self, file: Arc<File>, offset: u64, length: usize) -> Bytes {
        debug_assert!((SHORTEST..=LONGEST).contains(&length), "a part has a length within the bounds");
        let length = length.min(LONGEST);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.parts.is_empty() {
            waiting.plain = 0;
        }
        waiting.parts.push_back(Part { file, offset, length, sent: 0 });
        Bytes::from_static(&BLANK[..length])
    }

    /// Whether these bytes stand for a part of a file.
    pub fn is_stand_in(bytes: &[u8]) -> bool {
        !bytes.is_empty() && BLANK.as_ptr_range().contains(&bytes.as_ptr())
    }

    /// Sends what `stand_in` stands for, as far as the socket takes it; says how many bytes that was.
    pub fn send(&self, socket: impl AsFd, stand_in: &[u8]) -> io::Result<usize> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let part = waiting.parts.front_mut().ok_or_else(|| mismatch("a part was not announced"))?;
        let position = stand_in.as_ptr().addr() - BLANK.as_ptr().addr();
        if position != part.sent || stand_in.len() != part.length - part.sent {
            return Err(mismatch("a part is written out of order"));
        }
        let sent = send_file(socket, &part.file, part.offset + part.sent as u64, stand_in.len())?;
        if sent == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file has become shorter"));
        }
        part.sent += sent;
        if part.sent == part.length {
            waiting.parts.pop_front();
            waiting.plain = 0;
        }
        Ok(sent)
    }

    /// Whether so many plain bytes may be written now.
    pub fn admit(&self, plain: usize) -> io::Result<()> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.parts.is_empty() || waiting.plain + plain < SHORTEST {
            Ok(())
        } else {
            Err(mismatch("a part was passed over"))
        }
    }

    /// Takes note of plain bytes that were written.
    pub fn wrote(&self, plain: usize) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).plain += plain;
    }
}

fn mismatch(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(target_os = "linux")]
fn send_file(socket: impl AsFd, file: &File, mut offset: u64, length: usize) -> io::Result<usize> {
    Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), length)?)
}

#[cfg(not(target_os = "linux"))]
fn send_file(_: impl AsFd, _: &File, _: u64, _: usize) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn pair() -> io::Result<(TcpStream, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let ours = TcpStream::connect(listener.local_addr()?)?;
        Ok((ours, listener.accept()?.0))
    }

    fn file(length: usize) -> io::Result<(Arc<File>, Vec<u8>)> {
        let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap_or(0)).collect();
        let mut file = tempfile::tempfile()?;
        file.write_all(&content)?;
        file.seek(SeekFrom::Start(0))?;
        Ok((Arc::new(file), content))
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_file_is_sent_in_place_of_its_stand_in() -> io::Result<()> {
        let (file, content) = file(SHORTEST + 7)?;
        let (ours, mut theirs) = pair()?;
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; SHORTEST];
            theirs.read_exact(&mut got).map(|()| got)
        });
        let lane = Lane::default();
        let mut rest = lane.stand_in(file, 7, SHORTEST);
        assert!(Lane::is_stand_in(&rest));
        while !rest.is_empty() {
            let sent = lane.send(&ours, &rest)?;
            let _ = rest.split_to(sent);
        }
        assert_eq!(reader.join().expect("the reader does not panic")?, content[7..]);
        Ok(())
    }

    #[test]
    fn whatever_does_not_fit_is_an_error() -> io::Result<()> {
        let (file, _) = file(SHORTEST)?;
        let (ours, _theirs) = pair()?;
        let lane = Lane::default();
        let stand_in = lane.stand_in(Arc::clone(&file), 0, SHORTEST);
        assert!(lane.send(&ours, &stand_in[1..]).is_err(), "it begins later than the part");
        assert!(lane.send(&ours, &stand_in[..9]).is_err(), "it ends earlier than the part");
        assert!(Lane::default().send(&ours, &stand_in).is_err(), "it is not announced");
        Ok(())
    }

    #[test]
    fn a_part_that_is_passed_over_is_noticed() -> io::Result<()> {
        let (file, _) = file(SHORTEST)?;
        let lane = Lane::default();
        lane.admit(LONGEST)?;
        lane.wrote(LONGEST);
        let _stand_in = lane.stand_in(file, 0, SHORTEST);
        lane.admit(SHORTEST - 1)?;
        lane.wrote(500);
        assert!(lane.admit(SHORTEST - 500).is_err());
        Ok(())
    }

    #[test]
    fn other_bytes_are_themselves() {
        assert!(!Lane::is_stand_in(b"wheel"));
        assert!(!Lane::is_stand_in(&vec![0; SHORTEST]));
        assert!(!Lane::is_stand_in(&[]));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_became_shorter_is_an_error() -> io::Result<()> {
        let (file, _) = file(0)?;
        let (ours, _theirs) = pair()?;
        let lane = Lane::default();
        let stand_in = lane.stand_in(file, 0, SHORTEST);
        let failed = lane.send(&ours, &stand_in).map_err(|error| error.kind());
        assert_eq!(failed, Err(io::ErrorKind::UnexpectedEof));
        Ok(())
    }
}
