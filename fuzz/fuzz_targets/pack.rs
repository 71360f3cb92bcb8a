//! The table of contents of an opened pack, and the frames it tells of.

#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use warmspare::pipeline::{ChunkIdKey, Decompressor, PackReader};

fuzz_target!(|data: &[u8]| {
    let Ok(mut index) = PackReader::new(Cursor::new(data)) else { return };
    let slots = index.slots().len();
    let (key, mut with) = (ChunkIdKey::new([3; 32]), Decompressor::new().expect("memory"));
    // The frames lie one after the other and fill the pack up to its table.
    assert!(index.slots().iter().map(|slot| slot.frame_bytes as usize).sum::<usize>() <= data.len());
    for at in 0..slots.min(16) {
        let slot = u32::try_from(at).expect("few");
        let mut plain = Vec::new();
        let plain_bytes = index.slots()[at].plain_bytes as usize;
        if let Ok(chunks) = index.append(slot, 1, &key, &mut with, &mut plain) {
            assert_eq!((chunks, plain.len()), (1, plain_bytes));
        }
    }
    assert!(index.append(u32::try_from(slots).expect("few"), 1, &key, &mut with, &mut Vec::new()).is_err());
});
