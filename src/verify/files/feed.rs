//! Hands a stream to code that reads and writes files, and therefore blocks.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use super::error::Error;
use crate::observe::Meter;
use crate::stream::SourceStream;

const BLOCKS_MAX: usize = 4;

enum Message {
    Block(Bytes),
    /// The stream has ended, and its length and hash are right.
    End,
}

/// Reads `stream` in this task and does `work` on it in a thread of its own.
///
/// # Errors
/// Of the stream before those of `work`, which only notices that it broke off.
pub async fn read_blocking<T, E>(
    mut stream: impl SourceStream,
    meter: &dyn Meter,
    work: impl FnOnce(Blocks) -> Result<T, E> + Send + 'static,
) -> Result<T, crate::error::Error>
where
    T: Send + 'static,
    E: From<Error> + Into<crate::error::Error> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(BLOCKS_MAX);
    let blocks = Blocks { receiver, block: Bytes::new(), ended: false };
    let task = tokio::task::spawn_blocking(move || work(blocks));
    let fed = feed(&mut stream, sender, meter).await;
    let done = task.await.unwrap_or_else(|ended| match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => Err(Error::Stopped.into()),
    });
    fed?;
    done.map_err(Into::into)
}

async fn feed(
    stream: &mut impl SourceStream,
    sender: mpsc::Sender<Message>,
    meter: &dyn Meter,
) -> Result<(), crate::error::Error> {
    while let Some(block) = stream.next().await? {
        meter.advance(block.len() as u64);
        // Nobody reads any more: the work failed and says why itself.
        if sender.send(Message::Block(block)).await.is_err() {
            return Ok(());
        }
    }
    let _work_is_over = sender.send(Message::End).await;
    Ok(())
}

/// The reading end.
pub struct Blocks {
    receiver: mpsc::Receiver<Message>,
    block: Bytes,
    ended: bool,
}

impl Blocks {
    /// Reads what is left and returns when the stream is known to be whole.
    ///
    /// # Errors
    /// When it broke off.
    pub fn verified_end(mut self) -> io::Result<()> {
        io::copy(&mut self, &mut io::sink()).map(drop)
    }
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.block.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Message::Block(block)) => self.block = block,
                Some(Message::End) => self.ended = true,
                None => return Err(io::Error::other("its stream broke off")),
            }
        }
        let length = buffer.len().min(self.block.len());
        self.block.split_to(length).copy_to_slice(buffer.get_mut(..length).unwrap_or_default());
        Ok(length)
    }
}
