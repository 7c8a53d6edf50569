#!/bin/busybox sh
# The guest's first process: mounts what a system needs, runs the tests, and powers off.

case $1 in
"")
  # pivot_root(2) fails on the initial root file system, so a bind of it is mounted over it.
  busybox mkdir -p /mnt /proc /sys /dev /tmp /run /var /root
  busybox mount --bind / /mnt
  cd /mnt
  busybox mount --move . /
  exec busybox chroot . /bin/busybox sh /init begin </dev/console >/dev/console 2>&1
  ;;
esac

export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 NO_COLOR=1 CI=true DENOMOUNT_EMULATED=true
cd /
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs tmpfs /run
busybox mount -t cgroup2 cgroup /sys/fs/cgroup
busybox ln -s /proc/self/fd /dev/fd
busybox ip link set lo up
ulimit -n 65536

while read -r module; do
  busybox insmod "/$module" || echo "module $module can't be loaded"
done </modules

# Before 6.3 tmpfs can't be id-mapped, so /tmp is on ext4.
busybox truncate -s 4G /disk
mkfs.ext4 -q -F -m 0 /disk
busybox mount -o loop /disk /tmp || busybox poweroff -f
busybox chmod 1777 /tmp

cd /denomount
busybox timeout "$(busybox cat /seconds)" deno run -A --cached-only test/kernels/guest/main.ts
busybox poweroff -f
