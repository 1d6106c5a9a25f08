//! A connection's socket: bytes in and out, through TLS or not. It never waits, but for [`Transport::ready`].
//!
//! TLS is a session of `rustls`, which does no input or output by itself: what it has to send goes out when something is
//! written, and what has arrived goes through it when something is read.

use std::future::{Future, pending};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use rustls::{ServerConfig, ServerConnection};
use tokio::io::{AsyncWriteExt, Interest, Ready};
use tokio::net::TcpStream;

/// What a TLS session takes to encrypt before it has been sent, in bytes.
const UNSENT: usize = 256 * 1024;

/// One read takes so many bytes out of a TLS session at a time.
const PIECE: usize = 16 * 1024;

/// What frames travel on.
#[derive(Debug)]
pub(crate) struct Transport {
    socket: TcpStream,
    tls: Option<Box<Tls>>,
}

#[derive(Debug)]
struct Tls {
    session: ServerConnection,
    /// Bytes that have been decrypted and not been read.
    decrypted: usize,
}

/// A socket, as a TLS session wants it.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Transport {
    /// Without TLS.
    pub(crate) fn plain(socket: TcpStream) -> Transport {
        Transport { socket, tls: None }
    }

    /// With TLS, as a server. The handshake is made by reading and writing.
    ///
    /// # Errors
    /// The configuration is of no use.
    pub(crate) fn tls(
        socket: TcpStream,
        config: Arc<ServerConfig>,
    ) -> Result<Transport, rustls::Error> {
        let mut session = ServerConnection::new(config)?;
        session.set_buffer_limit(Some(UNSENT));
        Ok(Transport { socket, tls: Some(Box::new(Tls { session, decrypted: 0 })) })
    }

    /// Waits until something of that can be done; for ever, if there is nothing to do.
    pub(super) async fn ready(&self, interest: Option<Interest>) -> io::Result<Ready> {
        let waits_to_be_read = self.tls.as_ref().is_some_and(|tls| tls.decrypted > 0);
        if waits_to_be_read && interest.is_some_and(Interest::is_readable) {
            return Ok(Ready::READABLE);
        }
        let interest = match (interest, self.holds_unsent()) {
            (Some(interest), true) => Some(interest | Interest::WRITABLE),
            (None, true) => Some(Interest::WRITABLE),
            (interest, false) => interest,
        };
        match interest {
            Some(interest) => self.socket.ready(interest).await,
            None => pending().await,
        }
    }

    /// Whether the peer has closed the socket, be it behind bytes that have not been read.
    pub(super) fn has_hung_up(&self) -> bool {
        let ready = pin!(self.socket.ready(Interest::READABLE));
        let mut context = Context::from_waker(Waker::noop());
        matches!(ready.poll(&mut context), Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Reads what is there, as far as there is room in `buffer`. 0: the peer sends no more.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`]: there is nothing now. Else the socket's, or what is wrong with the peer's TLS
    /// ([`ErrorKind::InvalidData`]).
    pub(super) fn try_read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match &mut self.tls {
            None => {
                let count = self.socket.try_read_buf(buffer)?;
                if count > 0 && buffer.len() < buffer.capacity() {
                    self.note_drained();
                }
                Ok(count)
            }
            Some(tls) => tls.try_read(&self.socket, buffer),
        }
    }

    /// Spares reading once more to be told that there is nothing: all that had arrived has been read. What arrives meanwhile
    /// makes the socket readable anew.
    fn note_drained(&self) {
        let drained = || Err::<(), _>(ErrorKind::WouldBlock.into());
        self.socket.try_io(Interest::READABLE, drained).ok();
    }

    /// Tells the peer's system at once that all has arrived. It would wait to do so with the next bytes that are written, for 40 ms at
    /// most.
    pub(super) fn acknowledge(&self) {
        // It is a favour: without it, the peer waits.
        #[cfg(target_os = "linux")]
        self.socket.set_quickack(true).ok();
    }

    /// Writes what can be written now, and returns how many bytes that was.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`]: nothing, now. Else the socket's.
    pub(super) fn try_write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.try_write_vectored(slices),
            Some(tls) => {
                let count = tls.session.writer().write_vectored(slices)?;
                tls.try_flush(&self.socket)?;
                if count > 0 { Ok(count) } else { Err(ErrorKind::WouldBlock.into()) }
            }
        }
    }

    /// Sends what TLS has to send, as far as it goes: a part of its handshake, or what was written and did not fit.
    pub(super) fn try_flush(&mut self) -> io::Result<()> {
        self.tls.as_mut().map_or(Ok(()), |tls| tls.try_flush(&self.socket))
    }

    /// Whether something that was written has not been sent.
    pub(super) fn holds_unsent(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.session.wants_write())
    }

    /// Says that nothing more is sent.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.session.send_close_notify();
            tls.try_flush(&self.socket)?;
        }
        self.socket.shutdown().await
    }

    /// Reads until the peer closes the socket, and throws away what it sends.
    pub(super) async fn drain(&self, scratch: &mut [u8]) {
        while self.socket.readable().await.is_ok() {
            match self.socket.try_read(scratch) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
}

impl Tls {
    fn try_read(&mut self, socket: &TcpStream, buffer: &mut BytesMut) -> io::Result<usize> {
        loop {
            let taken = self.take_decrypted(buffer)?;
            if taken > 0 {
                return Ok(taken);
            }
            let received = self.session.read_tls(&mut Socket(socket))?;
            let state = match self.session.process_new_packets() {
                Ok(state) => state,
                Err(error) => {
                    // The peer is told why. Whether that can still be sent makes no difference.
                    self.try_flush(socket).ok();
                    return Err(io::Error::new(ErrorKind::InvalidData, error));
                }
            };
            self.decrypted = state.plaintext_bytes_to_read();
            if self.decrypted == 0 && (received == 0 || state.peer_has_closed()) {
                return Ok(0);
            }
        }
    }

    /// Moves what has been decrypted to `buffer`, as far as there is room.
    fn take_decrypted(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let before = buffer.len();
        while self.decrypted > 0 && buffer.len() < buffer.capacity() {
            let (start, room) = (buffer.len(), buffer.capacity() - buffer.len());
            buffer.resize(start + room.min(self.decrypted).min(PIECE), 0);
            let count = self.session.reader().read(&mut buffer[start..])?;
            buffer.truncate(start + count);
            self.decrypted -= count;
        }
        Ok(buffer.len() - before)
    }

    fn try_flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
