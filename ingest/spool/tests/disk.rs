//! The log on a real disk, through its public face.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as expected")]

use std::path::Path;
use std::time::Duration;

use sallyport_ingest_spool::{AppendError, Health, MAX_RECORD, OpenError, Options, Reader, Spool};

fn options(folder: &Path, max_bytes: u64) -> Options {
    Options { folder: folder.join("spool"), max_bytes }
}

/// Opens the log; an earlier one's thread may still be ending.
async fn open(options: &Options) -> (Spool, Reader) {
    let opened = async {
        loop {
            match Spool::open(options) {
                Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                opened => return opened.unwrap(),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), opened).await.unwrap()
}

async fn take(reader: &mut Reader, count: u64) -> Vec<Vec<u8>> {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while u64::try_from(taken.len()).unwrap() < count {
        let chunk =
            tokio::time::timeout(Duration::from_secs(10), reader.next(1 << 20)).await.unwrap().unwrap();
        taken.extend(chunk.records.iter().map(|record| record.payload.to_vec()));
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_at_once_is_read_in_the_order_of_its_positions_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), 64 << 20);
    let (spool, mut reader) = open(&options).await;
    let mut appends = tokio::task::JoinSet::new();
    for number in 0..500_u32 {
        let spool = spool.clone();
        appends.spawn(async move { (spool.append(number.to_le_bytes().to_vec()).await.unwrap(), number) });
    }
    let mut expected = appends.join_all().await;
    expected.sort_unstable();
    let expected: Vec<Vec<u8>> = expected.iter().map(|(_, number)| number.to_le_bytes().to_vec()).collect();
    assert_eq!(take(&mut reader, 500).await, expected);
    reader.delivered(200);
    reader.save().await;
    drop((spool, reader));
    let (spool, mut reader) = open(&options).await;
    assert_eq!(spool.undelivered(), 300);
    assert_eq!(take(&mut reader, 300).await, expected[200..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_log_refuses_until_enough_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, mut reader) = open(&options(folder.path(), 1 << 20)).await;
    let mut count = 0;
    let refused = loop {
        match spool.append(vec![1; 10_000]).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full), "{refused}");
    assert_eq!(*spool.health().borrow(), Health::Full);
    assert!(spool.bytes() <= 1 << 20 && count > 90, "{count} records in {} bytes", spool.bytes());
    assert_eq!(take(&mut reader, count).await.len(), usize::try_from(count).unwrap());
    reader.delivered(count);
    reader.save().await;
    assert_eq!(*spool.health().borrow(), Health::Writable);
    assert!(spool.bytes() < 200_000, "{} bytes", spool.bytes());
    assert_eq!(spool.append(vec![2]).await.unwrap(), count + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_is_written_while_nothing_comes() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), 1 << 20);
    let (spool, mut reader) = open(&options).await;
    spool.append(vec![1]).await.unwrap();
    take(&mut reader, 1).await;
    reader.delivered(1);
    let cursor = options.folder.join("cursor");
    let written = async {
        while !cursor.exists() {
            // Nothing more comes: only the cursor is written meanwhile.
            let _ = tokio::time::timeout(Duration::from_millis(50), reader.next(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), written).await.unwrap();
}

#[tokio::test]
async fn a_folder_serves_one_process_and_records_have_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path(), 1 << 20);
    let (spool, _reader) = open(&options).await;
    assert!(matches!(Spool::open(&options), Err(OpenError::InUse { .. })));
    for size in [0, MAX_RECORD + 1] {
        assert!(matches!(spool.append(vec![0; size]).await, Err(AppendError::Size)));
    }
}
