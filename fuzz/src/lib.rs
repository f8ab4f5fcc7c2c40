//! What the fuzz targets share: ways to feed the same bytes in different pieces, and settings out
//! of a byte of the input.

pub mod http;
pub mod websocket;

/// The sizes of pieces that a few bytes of input stand for: the input itself decides where it is
/// cut.
#[derive(Debug, Clone)]
pub struct Cuts<'a> {
    sizes: &'a [u8],
    at: usize,
}

impl<'a> Cuts<'a> {
    /// Takes the sizes off the front of `data`: a byte that says how many, and they.
    pub fn take(data: &mut &'a [u8]) -> Cuts<'a> {
        let count = usize::from(byte(data) % 8);
        let (sizes, rest) = data.split_at(count.min(data.len()));
        *data = rest;
        Cuts { sizes, at: 0 }
    }

    /// The size of the next piece: at least 1, mostly small, at times more than there is.
    pub fn next_size(&mut self) -> usize {
        if self.sizes.is_empty() {
            return 3;
        }
        let byte = usize::from(self.sizes[self.at % self.sizes.len()]);
        self.at += 1;
        match byte {
            0..128 => byte + 1,
            128..224 => (byte - 127) * 64,
            _ => (byte - 223) * 16_384,
        }
    }
}

/// Takes a byte off the front; 0 where there is none.
pub fn byte(data: &mut &[u8]) -> u8 {
    match data.split_first() {
        Some((&first, rest)) => {
            *data = rest;
            first
        }
        None => 0,
    }
}

/// The most memory that `work` had at once, beside what there was before, in bytes.
pub fn peak(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).bytes_max
}
