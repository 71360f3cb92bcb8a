//! The table of contents of an opened pack, and the frames it tells of.

#![no_main]

use libfuzzer_sys::fuzz_target;
use warmspare::pipeline::PackIndex;

fuzz_target!(|data: &[u8]| {
    let Ok(index) = PackIndex::parse(data.to_vec()) else { return };
    let slots = index.slots().len();
    // The frames lie one after the other and fill the pack up to its table.
    assert!(index.slots().iter().map(|slot| slot.frame_bytes as usize).sum::<usize>() <= data.len());
    for at in 0..slots.min(16) {
        let slot = u32::try_from(at).expect("few");
        if let Ok(frame) = index.frame(slot) {
            let (_, chunk) = frame.chunks_from(slot).next().expect("the frame that holds it");
            assert_eq!(chunk.len(), index.slots()[at].plain_bytes as usize);
        }
    }
    assert!(index.frame(u32::try_from(slots).expect("few")).is_err());
});
