//! A viewer in Rust of frames that Python writes: `viewer REFERENCE`, where the reference is `str(nds.ref(ring))`. It prints
//! what the frames are, and number and sum of each until the stream ends.

use ndshare::ring::{Mode, Start};
use ndshare::{Deadline, Kind, Ring};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (reference, forever) = (std::env::args().nth(1).ok_or("expected: REFERENCE")?, Deadline::never());
    let ring = Ring::open_reference(&reference.parse()?, &forever)?;
    let format = ring.format();
    println!("{:?} {:?} {}", format.name, format.shape, format.element.as_ref().map_or("any".into(), |e| e.name()));
    let reader = ring.reader(Mode::Every, Start::Next, &forever)?;
    loop {
        let frame = match reader.get(&forever) {
            Err(error) if error.kind() == Kind::Closed => return Ok(()),
            other => other?,
        };
        let sum: u64 = frame.array()?.to_vec::<u16>()?.into_iter().map(u64::from).sum();
        println!("{} {sum}", frame.seq);
    }
}
