//! [`SharedMessage`]: a message that many connections send, encoded as often as they differ.

use std::borrow::Cow;
use std::sync::Arc;

use crate::outbox::SharedFrame;
use crate::proto::{
    DeflateSetting, Deflater, OpCode, Outgoing, encode_compressed_frame, encode_frame,
};
use crate::scratch;

/// A message and its frames: one as it is, and one for each setting of compression that was met.
#[derive(Debug)]
pub(crate) struct SharedMessage<'m> {
    opcode: OpCode,
    payload: Cow<'m, [u8]>,
    /// See [`SharedFrame`].
    volatile: u64,
    plain: Option<SharedFrame>,
    /// None where it is better sent as it is. Servers have one setting, or a few more where their
    /// clients ask for smaller windows.
    compressed: Vec<(DeflateSetting, Option<SharedFrame>)>,
}

impl<'m> SharedMessage<'m> {
    pub(crate) fn new(message: Outgoing<'m>, volatile: u64) -> SharedMessage<'m> {
        SharedMessage {
            opcode: message.opcode(),
            payload: message.into_cow(),
            volatile,
            plain: None,
            compressed: Vec::new(),
        }
    }

    pub(crate) fn opcode(&self) -> OpCode {
        self.opcode
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The frame for connections without compression.
    #[inline]
    pub(crate) fn plain(&mut self) -> &SharedFrame {
        if self.plain.is_none() {
            self.plain = Some(self.encode(encode_frame, &self.payload));
        }
        self.plain.as_ref().expect("just encoded")
    }

    /// The frame for connections that compress with this setting.
    pub(crate) fn compressed(
        &mut self,
        setting: DeflateSetting,
        deflater: &mut Deflater,
    ) -> &SharedFrame {
        let known = self.compressed.iter().position(|(of, _)| *of == setting);
        let at = known.unwrap_or_else(|| {
            let mut packed = scratch::take();
            let worth_it = deflater.compress(&self.payload, &mut packed);
            let frame = worth_it.then(|| self.encode(encode_compressed_frame, &packed));
            scratch::give(packed);
            self.compressed.push((setting, frame));
            self.compressed.len() - 1
        });
        match self.compressed[at].1 {
            Some(_) => self.compressed[at].1.as_ref().expect("just looked at"),
            None => self.plain(),
        }
    }

    fn encode(&self, encode: Encode, payload: &[u8]) -> SharedFrame {
        let mut bytes = scratch::take();
        encode(&mut bytes, true, self.opcode, payload, None);
        let frame = SharedFrame {
            bytes: Arc::from(&*bytes),
            volatile: self.volatile,
        };
        scratch::give(bytes);
        frame
    }
}

type Encode = fn(&mut Vec<u8>, bool, OpCode, &[u8], Option<[u8; 4]>);
