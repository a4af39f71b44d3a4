# For NixOS: services.set-rto.enable, and the rules. Not tried.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.set-rto;
  package = pkgs.callPackage ./package.nix { inherit (cfg) rules; };
in
{
  options.services.set-rto = {
    enable = lib.mkEnableOption "TCP timers by rules (set-rto)";
    rules = lib.mkOption {
      type = lib.types.nullOr lib.types.path;
      default = null;
      description = "The rules file to compile in. null: the one of the sources.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ package ];
    systemd.packages = [ package ];
    # Changed rules replace the attached ones in place.
    systemd.services.set-rto = {
      wantedBy = [ "sysinit.target" ];
      reloadIfChanged = true;
    };
  };
}
