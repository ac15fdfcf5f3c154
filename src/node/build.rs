//! Lets the addon link without Node.js.
fn main() {
    napi_build::setup();
}
