//! Random bytes: masking keys and nonces.

use std::cell::RefCell;
use std::io;

/// So many bytes are asked of the system at a time: its generator is as good as any, and a call for
/// each key would cost more than the frame.
const STOCK: usize = 4096;

struct Stock {
    bytes: Box<[u8; STOCK]>,
    used: usize,
}

thread_local! {
    static STOCK_OF_THREAD: RefCell<Option<Stock>> = const { RefCell::new(None) };
}

/// Bytes that nobody can guess (RFC 6455, 5.3 and 10.3).
///
/// # Errors
///
/// What the system says, which happens only where it keeps the call from the process.
pub(crate) fn bytes<const N: usize>() -> io::Result<[u8; N]> {
    STOCK_OF_THREAD.with_borrow_mut(|stock| {
        let stock = stock.get_or_insert_with(|| Stock {
            bytes: Box::new([0; STOCK]),
            used: STOCK,
        });
        if STOCK - stock.used < N {
            getrandom::fill(&mut *stock.bytes).map_err(io::Error::from)?;
            stock.used = 0;
        }
        let taken = &mut stock.bytes[stock.used..stock.used + N];
        let mut bytes = [0; N];
        bytes.copy_from_slice(taken);
        // A key that was used is nobody's business any more.
        taken.fill(0);
        stock.used += N;
        Ok(bytes)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_do_not_repeat() {
        let keys: HashSet<[u8; 16]> = (0..1000).map(|_| bytes().unwrap()).collect();
        assert_eq!(keys.len(), 1000);
        assert!(!keys.contains(&[0; 16]));
    }
}
