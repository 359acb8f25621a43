// What PyTorch asks of a CUDA device, answered without one: tensors whose device is cuda:0 and whose numbers lie in the
// machine's own memory. `stand_in_card.py` computes with them.

#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

namespace {

using c10::Device;
using c10::DeviceType;
using c10::Stream;

const Device CARD(DeviceType::CUDA, 0);

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  DeviceType type() const override { return DeviceType::CUDA; }
  Device exchangeDevice(Device) const override { return CARD; }
  Device getDevice() const override { return CARD; }
  void setDevice(Device) const override {}
  void uncheckedSetDevice(Device) const noexcept override {}
  Stream getStream(Device) const override { return Stream(Stream::DEFAULT, CARD); }
  Stream getNewStream(Device, int) const override { return getStream(CARD); }
  Stream exchangeStream(Stream) const override { return getStream(CARD); }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  bool queryStream(const Stream&) const override { return true; }
  void synchronizeStream(const Stream&) const override {}
};

struct Hooks final : public at::CUDAHooksInterface {
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
};

// Memory of the card is memory of the machine under another name.
struct Allocator final : public c10::Allocator {
  c10::DataPtr allocate(size_t count) override {
    auto own = c10::GetCPUAllocator()->allocate(count);
    auto* data = own.get();
    auto* kept = new c10::DataPtr(std::move(own));
    return {data, kept, &forget, CARD};
  }
  void copy_data(void* to, const void* from, std::size_t count) const override { default_copy_data(to, from, count); }
  static void forget(void* kept) { delete static_cast<c10::DataPtr*>(kept); }
};

void let_go(void* kept) { c10::raw::intrusive_ptr::decref(static_cast<c10::StorageImpl*>(kept)); }

// A tensor over the very memory of `one`, on `device`.
at::Tensor seen_from(const at::Tensor& one, Device device, c10::DispatchKey key) {
  auto* storage = one.storage().unsafeGetStorageImpl();
  c10::raw::intrusive_ptr::incref(storage);
  c10::DataPtr data(storage->mutable_data(), storage, &let_go, device);
  c10::Storage other(c10::Storage::use_byte_size_t(), storage->nbytes(), std::move(data), nullptr, false);
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(other), c10::DispatchKeySet(key), one.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(one.sizes(), one.strides(), one.storage_offset());
  return made;
}

at::Tensor on_card(const at::Tensor& own) { return seen_from(own, CARD, c10::DispatchKey::CUDA); }
at::Tensor off_card(const at::Tensor& card) { return seen_from(card, Device(DeviceType::CPU), c10::DispatchKey::CPU); }

// `set_`, which is a kernel of the device's.
void set(const at::Tensor& card, const c10::Storage& from, int64_t begin, at::IntArrayRef sizes, at::IntArrayRef steps) {
  auto* tensor = card.unsafeGetTensorImpl();
  tensor->set_storage_keep_dtype(from);
  tensor->set_sizes_and_strides(sizes, steps, begin);
}

Allocator allocator;

const bool made = [] {
  at::CUDAHooksRegistry()->Register(
      "CUDAHooks",
      [](at::CUDAHooksArgs) { return std::unique_ptr<at::CUDAHooksInterface>(new Hooks()); },
      c10::REGISTRY_PREFERRED);
  c10::SetAllocator(DeviceType::CUDA, &allocator);
  return true;
}();

C10_REGISTER_GUARD_IMPL(CUDA, Guard)

TORCH_LIBRARY(stand_in_card, library) {
  library.def("on_card(Tensor own) -> Tensor");
  library.def("off_card(Tensor card) -> Tensor");
  library.def("set(Tensor card, Storage source, int begin, int[] sizes, int[] steps) -> ()");
}
TORCH_LIBRARY_IMPL(stand_in_card, CompositeImplicitAutograd, library) {
  library.impl("on_card", on_card);
  library.impl("off_card", off_card);
  library.impl("set", set);
}

}  // namespace
