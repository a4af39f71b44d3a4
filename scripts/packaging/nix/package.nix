# For `callPackage ./package.nix { rules = ./rules.toml; }`, in the shape of nixpkgs' pkgs/by-name. `src` is this
# repository. Not tried: there is no Nix where this was written.
{
  lib,
  rustPlatform,
  llvmPackages,
  installShellFiles,
  rules ? null,
}:

rustPlatform.buildRustPackage {
  pname = "set-rto";
  version = "0.2.0";

  src = lib.cleanSource ../../..;
  cargoLock.lockFile = ../../../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];

  # The wrapped clang adds flags for the host that the target bpf does not have.
  env = {
    CLANG = "${lib.getBin llvmPackages.clang-unwrapped}/bin/clang";
    # As in .cargo/config.toml, which the builder may replace.
    LIBBPF_SYS_EXTRA_CFLAGS = "-I../../elfutils/libelf -I../../zlib";
    PKG_CONFIG = "true";
  }
  // lib.optionalAttrs (rules != null) { SET_RTO_RULES = "${rules}"; };

  # Else the flags that are for hardening the host's programs reach clang -target bpf.
  hardeningDisable = [ "all" ];

  cargoBuildFlags = [ "--package=set-rto" ];
  # The tests attach to a kernel.
  doCheck = false;

  postInstall = ''
    installManPage scripts/packaging/man/set-rto.8 scripts/packaging/man/set-rto-rules.5
    installShellCompletion --bash scripts/packaging/completions/set-rto.bash
    installShellCompletion --zsh scripts/packaging/completions/_set-rto
    installShellCompletion --fish scripts/packaging/completions/set-rto.fish
    mkdir -p $out/sbin && mv $out/bin/set-rto $out/sbin/ && ln -s ../sbin/set-rto $out/bin/set-rto
    install -D -m 644 scripts/packaging/systemd/set-rto.service $out/lib/systemd/system/set-rto.service
    substituteInPlace $out/lib/systemd/system/set-rto.service --replace-fail /usr/sbin/set-rto $out/sbin/set-rto
  '';

  meta = {
    description = "TCP's first retransmit timer per connection, by rules compiled into the binary";
    license = with lib.licenses; [
      mit
      asl20
    ];
    platforms = lib.platforms.linux;
    mainProgram = "set-rto";
  };
}
