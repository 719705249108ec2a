//! What the functions print: a file per function, and the last lines for display.

use super::LocalError;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

/// Lines kept for display.
const LINES_KEPT: usize = 100;
/// Longest line kept for display, in bytes; the file has all of it.
const LINE_BYTES_MAX: usize = 16 * 1024;
/// Bytes read at once.
const CHUNK_BYTES: usize = 8 * 1024;

/// The log of one function.
#[derive(Clone)]
pub(crate) struct FunctionLog {
    path: PathBuf,
    file: Arc<tokio::sync::Mutex<tokio::fs::File>>,
    last: Arc<Mutex<VecDeque<String>>>,
}

impl FunctionLog {
    pub(crate) async fn open(folder: &Path, function: &str) -> Result<Self, LocalError> {
        let path = folder.join(format!("{function}.log"));
        let file = tokio::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .await;
        let file = file.map_err(|error| LocalError::file(&path, error))?;
        Ok(Self {
            path,
            file: Arc::new(tokio::sync::Mutex::new(file)),
            last: Arc::default(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last lines, oldest first.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    /// Copies everything the process prints, until it ends.
    pub(crate) fn follow(&self, output: impl AsyncRead + Unpin + Send + 'static) {
        let log = self.clone();
        tokio::spawn(async move { log.copy(output).await });
    }

    async fn copy(&self, mut output: impl AsyncRead + Unpin + Send) {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut line = Vec::new();
        loop {
            let bytes = match output.read(&mut chunk).await {
                Ok(count) if count > 0 => chunk.get(..count).unwrap_or_default(),
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!(error = %error, log = %self.path.display(), "the function's output is cut off");
                    break;
                }
            };
            self.write(bytes).await;
            for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
                let room = LINE_BYTES_MAX.saturating_sub(line.len());
                line.extend(piece.iter().take(room));
                if piece.ends_with(b"\n") {
                    self.keep(&std::mem::take(&mut line));
                }
            }
        }
        if !line.is_empty() {
            self.keep(&line);
        }
    }

    async fn write(&self, bytes: &[u8]) {
        let mut file = self.file.lock().await;
        let written = file.write_all(bytes).await;
        let flushed = file.flush().await;
        if let Err(error) = written.and(flushed) {
            tracing::warn!(error = %error, log = %self.path.display(), "the log cannot be written");
        }
    }

    fn keep(&self, line: &[u8]) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.len() >= LINES_KEPT {
            last.pop_front();
        }
        last.push_back(String::from_utf8_lossy(line).trim_end().to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keeps_the_last_lines_and_writes_them_all() {
        let folder = std::env::temp_dir().join(format!("sandbox-log-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let log = FunctionLog::open(&folder, "Sample").await.unwrap();
        let text: String = (0..150)
            .map(|number| format!("line {number}\n"))
            .chain(["open end".to_owned()])
            .collect();
        log.copy(text.as_bytes()).await;
        let lines = log.last_lines();
        assert_eq!(
            (lines.len(), lines[98].as_str(), lines[99].as_str()),
            (LINES_KEPT, "line 149", "open end")
        );
        assert_eq!(std::fs::read_to_string(log.path()).unwrap(), text);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
