//! A broker that says what a client wants to hear, and does something else: for what has to find that.
//!
//! It has one queue for everybody, and confirms each message by itself. Messages are delivered all at once to whoever consumes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use bytes::{BufMut, BytesMut};
use haypile::amqp::codec::{
    Frame, FrameKind, Method, PROTOCOL_HEADER, put_body_frame_header, put_content_header,
    put_method, split_frames,
};
use haypile::message::{RawProperties, RawTable};

/// What is wrong with a [`LyingBroker`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// One message is not there any more.
    Loses,
    /// One is delivered twice.
    Doubles,
    /// The last bit of one is another.
    Alters,
    /// Two change places.
    Swaps,
    /// One is refused, which is no lie.
    Refuses,
    /// After five messages it closes the connection.
    Closes,
    /// After five messages it goes without a word.
    GoesAway,
}

/// See the module. Its threads end with their connections, or with the test.
pub(crate) struct LyingBroker {
    address: SocketAddr,
}

/// A connection.
struct Dialogue {
    lie: Lie,
    queue: Arc<Mutex<Vec<Vec<u8>>>>,
    published: u64,
    out: BytesMut,
}

impl LyingBroker {
    pub(crate) fn start(lie: Lie) -> LyingBroker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let queue = Arc::default();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let queue = Arc::clone(&queue);
                let dialogue = Dialogue { lie, queue, published: 0, out: BytesMut::new() };
                thread::spawn(move || dialogue.go_on(stream.unwrap()));
            }
        });
        LyingBroker { address }
    }

    pub(crate) fn uri(&self) -> String {
        format!("amqp://{}", self.address)
    }
}

impl Dialogue {
    fn go_on(mut self, mut stream: TcpStream) -> Option<()> {
        let mut header = [0; PROTOCOL_HEADER.len()];
        stream.read_exact(&mut header).ok()?;
        assert_eq!(header, PROTOCOL_HEADER);
        self.answer(
            0,
            &Method::ConnectionStart {
                version_major: 0,
                version_minor: 9,
                server_properties: RawTable::EMPTY,
                mechanisms: b"PLAIN",
                locales: b"en_US",
            },
        );
        let mut input = BytesMut::new();
        loop {
            stream.write_all(&self.out).ok()?;
            self.out.clear();
            let mut chunk = [0; 65_536];
            let count = stream.read(&mut chunk).ok().filter(|count| *count > 0)?;
            input.extend_from_slice(&chunk[..count]);
            let (frames, error) = split_frames(&mut input, 131_072);
            assert_eq!(error, None);
            for frame in frames {
                self.take(&frame)?;
            }
        }
    }

    fn answer(&mut self, channel: u16, method: &Method<'_>) {
        put_method(&mut self.out, channel, method);
    }

    /// `None`: it goes.
    fn take(&mut self, frame: &Frame) -> Option<()> {
        match frame.kind {
            FrameKind::Body => return self.published(frame.payload.to_vec()),
            FrameKind::Header | FrameKind::Heartbeat => return Some(()),
            FrameKind::Method => {}
        }
        let answer = match Method::decode(&frame.payload).unwrap() {
            Method::ConnectionStartOk { .. } => {
                Method::ConnectionTune { channel_max: 0, frame_max: 0, heartbeat: 0 }
            }
            Method::ConnectionOpen { .. } => Method::ConnectionOpenOk { reserved_1: b"" },
            Method::ConnectionClose { .. } => Method::ConnectionCloseOk {},
            Method::ChannelOpen { .. } => Method::ChannelOpenOk { reserved_1: b"" },
            Method::ChannelClose { .. } => Method::ChannelCloseOk {},
            Method::ConfirmSelect { .. } => Method::ConfirmSelectOk {},
            Method::BasicQos { .. } => Method::BasicQosOk {},
            Method::QueueDelete { .. } => Method::QueueDeleteOk { message_count: 0 },
            Method::QueueDeclare { .. } => {
                let message_count = u32::try_from(self.contents().len()).unwrap();
                Method::QueueDeclareOk { queue: b"", message_count, consumer_count: 0 }
            }
            Method::BasicConsume { consumer_tag, .. } => {
                self.answer(1, &Method::BasicConsumeOk { consumer_tag });
                self.deliver(consumer_tag);
                return Some(());
            }
            Method::ConnectionTuneOk { .. }
            | Method::BasicPublish { .. }
            | Method::BasicAck { .. } => {
                return Some(());
            }
            other => panic!("no client here sends {other:?}"),
        };
        self.answer(frame.channel, &answer);
        Some(())
    }

    fn published(&mut self, body: Vec<u8>) -> Option<()> {
        self.published += 1;
        let delivery_tag = self.published;
        match self.lie {
            Lie::GoesAway if delivery_tag == 5 => return None,
            Lie::Closes if delivery_tag == 5 => {
                let reply_text = b"INTERNAL_ERROR - a lie";
                let close = Method::ConnectionClose {
                    reply_code: 541,
                    reply_text,
                    class_id: 0,
                    method_id: 0,
                };
                self.answer(0, &close);
                return Some(());
            }
            Lie::Refuses if delivery_tag == 5 => {
                self.answer(
                    1,
                    &Method::BasicNack { delivery_tag, multiple: false, requeue: false },
                );
                return Some(());
            }
            _ => {}
        }
        self.queue.lock().unwrap().push(body);
        self.answer(1, &Method::BasicAck { delivery_tag, multiple: false });
        Some(())
    }

    /// What it has, or says so.
    fn contents(&self) -> Vec<Vec<u8>> {
        let mut contents = self.queue.lock().unwrap().clone();
        if contents.len() > 7 {
            match self.lie {
                Lie::Loses => drop(contents.remove(7)),
                Lie::Doubles => contents.insert(7, contents[7].clone()),
                Lie::Alters => *contents[7].last_mut().unwrap() ^= 1,
                Lie::Swaps => contents.swap(6, 7),
                Lie::Refuses | Lie::Closes | Lie::GoesAway => {}
            }
        }
        contents
    }

    fn deliver(&mut self, consumer_tag: &[u8]) {
        for (number, body) in self.contents().iter().enumerate() {
            let deliver = Method::BasicDeliver {
                consumer_tag,
                delivery_tag: number as u64 + 1,
                redelivered: false,
                exchange: b"",
                routing_key: b"",
            };
            put_method(&mut self.out, 1, &deliver);
            put_content_header(&mut self.out, 1, body.len() as u64, RawProperties::NONE);
            put_body_frame_header(&mut self.out, 1, u32::try_from(body.len()).unwrap());
            self.out.put_slice(body);
            self.out.put_u8(0xce);
        }
    }
}
