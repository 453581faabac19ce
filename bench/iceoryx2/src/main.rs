//! Times a hand-over between two processes through iceoryx2, as `ring_bench` of ndshare does through a ring.
//!
//! It starts itself once more as the other side, and prints both process ids. Then for each line of its input it does
//! round trips of a frame whose bytes nobody touches, both sides looking without a sleep, and prints the nanoseconds of
//! half of one.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::publish_subscribe::PortFactory as Service;
use std::error::Error;
use std::io::{BufRead, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

const FRAME_BYTES: usize = 4 << 20;
/// As in `ring_bench`.
const RUNS: u32 = 101;
const TRIPS: u32 = 1000;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Side {
    service: Service<ipc::Service, [u8], ()>,
    out: Publisher<ipc::Service, [u8], ()>,
    into: Subscriber<ipc::Service, [u8], ()>,
}

fn main() -> Outcome<()> {
    set_log_level(LogLevel::Error);
    match std::env::args().nth(1) {
        None => measure(),
        Some(name) => answer(&name),
    }
}

fn measure() -> Outcome<()> {
    let name = format!("ndshare-bench-{}", std::process::id());
    let node = NodeBuilder::new().create::<ipc::Service>()?;
    let side = Side::open(&node, &name, "there", "back")?;
    let mut child = Command::new(std::env::current_exe()?).arg(&name).stdin(Stdio::piped()).spawn()?;
    println!("{} {}", std::process::id(), child.id());
    std::io::stdout().flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let Some(input) = child.stdin.as_mut() else { break };
        writeln!(input, "{line}")?;
        println!("{}", side.lead()?);
        std::io::stdout().flush()?;
    }
    drop(child.stdin.take());
    child.wait()?;
    Ok(())
}

fn answer(name: &str) -> Outcome<()> {
    let node = NodeBuilder::new().create::<ipc::Service>()?;
    let side = Side::open(&node, name, "back", "there")?;
    for line in std::io::stdin().lock().lines() {
        line?;
        side.follow()?;
    }
    Ok(())
}

impl Side {
    fn open(node: &Node<ipc::Service>, name: &str, out: &str, into: &str) -> Outcome<Self> {
        let service = |way: &str| -> Outcome<_> {
            let name = ServiceName::new(&format!("{name}/{way}"))?;
            Ok(node.service_builder(&name).publish_subscribe::<[u8]>().open_or_create()?)
        };
        let (service, other) = (service(out)?, service(into)?);
        let out = service.publisher_builder().initial_max_slice_len(FRAME_BYTES).create()?;
        Ok(Self { service, out, into: other.subscriber_builder().create()? })
    }

    fn lead(&self) -> Outcome<f64> {
        self.meet();
        let mut runs = Vec::with_capacity(RUNS as usize);
        for _ in 0..RUNS {
            let start = Instant::now();
            for _ in 0..TRIPS {
                self.send()?;
                self.receive()?;
            }
            runs.push(start.elapsed().as_nanos() as f64 / f64::from(TRIPS));
        }
        runs.sort_by(f64::total_cmp);
        Ok(runs[runs.len() / 2] / 2.0)
    }

    fn follow(&self) -> Outcome<()> {
        self.meet();
        for _ in 0..RUNS * TRIPS {
            self.receive()?;
            self.send()?;
        }
        Ok(())
    }

    /// Waits until the other side listens: what is sent before is lost.
    fn meet(&self) {
        while self.service.dynamic_config().number_of_subscribers() == 0 {
            std::thread::yield_now();
        }
    }

    fn send(&self) -> Outcome<()> {
        let sample = self.out.loan_slice_uninit(FRAME_BYTES)?;
        // SAFETY: nobody looks at the bytes; the peers do not either.
        unsafe { sample.assume_init() }.send()?;
        Ok(())
    }

    fn receive(&self) -> Outcome<()> {
        loop {
            if let Some(sample) = self.into.receive()? {
                drop(sample);
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}
