//! temporary
use columns::*;
use domain::*;
#[test]
fn damage() {
    let at = TopicPartition::new("crypto-stream", 3);
    let mut e = Box::new(TradeEncoder::new());
    for n in 0..10 { let v = format!(r#"{{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":{n},"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}"#);
      e.push(&Record{at: at.clone(), offset: n, appended_at: Timestamp::from_millis(1_723_161_255_999), key: None, value: Some(v.into()), headers: Headers::new()}).unwrap(); }
    let file = e.finish(Span{at, start:0, end:10, epoch:"run-7".into()}).unwrap().1;
    let (mut hang_f, mut hang_d, mut pan_f, mut pan_d) = (vec![], vec![], vec![], vec![]);
    std::panic::set_hook(Box::new(|i| { if let Some(l) = i.location() { eprintln!("{l}"); } }));
    for pos in 0..file.len() { for bit in 0..8 {
        let mut f = file.to_vec(); f[pos] ^= 1<<bit;
        let f = bytes::Bytes::from(f);
        for which in 0..2 {
            let f = f.clone();
            let (tx, rx) = std::sync::mpsc::channel();
            std::thread::spawn(move || { let r = std::panic::catch_unwind(|| if which==0 { let _ = read_footer(&f); } else if let Ok(r) = decode_trades(f) { r.for_each(drop) }); let _ = tx.send(r.is_err()); });
            match rx.recv_timeout(std::time::Duration::from_millis(1500)) { Err(_) => if which==0 {hang_f.push((pos,bit))} else {hang_d.push((pos,bit))}, Ok(true) => if which==0 {pan_f.push((pos,bit))} else {pan_d.push((pos,bit))}, _ => {} }
        }
        if hang_d.len() + hang_f.len() > 3 { break; }
    } }
    println!("len {} hang_f {hang_f:?} hang_d {hang_d:?} pan_f {pan_f:?} pan_d {pan_d:?}", file.len());
    if let Some((p,b)) = hang_d.first().or(hang_f.first()) { let mut f = file.to_vec(); f[*p] ^= 1<<b; std::fs::write("/tmp/hang.parquet", f).unwrap(); }
    std::process::exit(0);
}
